# SPDX-License-Identifier: Apache-2.0
"""Does every operation of the API say all that its users must know, and does the description of the API repeat it?"""

import json
from collections import Counter

import jsonschema
import jsonschema_rs
import pytest
import schemathesis
from pydantic import ValidationError

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.root import Probe
from cyborg_reconciler_api import openapi, reference
from cyborg_reconciler_api.operation import JSON, Reply, Sample, operation, operations_of
from cyborg_reconciler_api.routes import COMMON, ROUTES, served

OPERATIONS = list(operations_of(ROUTES))
IDS = [f"{method} {path}" for path, method, _ in OPERATIONS]


@pytest.fixture(scope="module")
def described():
    return openapi.describe(ROUTES, "0.1.0")


def words(text):
    return len(text.split())


def lacking(path, method, one):
    """What an operation does not say of itself, in words."""
    asked = {
        "a summary": words(one.summary) >= 2,
        "a description: give its function a docstring": words(one.description) >= 6,
        "what it answers: a document, or another content type": (
            one.success != 200 or one.answer is not None or one.produces != JSON
        ),
        "a sample of its request": (one.request is None) == (one.sample.request is None),
        "a sample of its answer": (one.answer is None and one.produces == JSON) == (one.sample.answer is None),
        "who may call it": one.access in {*Role, "anybody", "agent"},
        "what its path names: see PATH_IDS": set(openapi.ids_of(path)) <= set(openapi.PATH_IDS),
    }
    told = {**openapi.successes(method, one), **openapi.causes(path, method, one)}
    asked |= {f"what causes {status}": words(cause) >= 3 for status, cause in told.items()}
    asked |= {
        f"what {name} says": words(field.description or "") >= 2
        for name, field in (one.query.model_fields if one.query else {}).items()
    }
    return [what for what, is_there in asked.items() if not is_there]


@pytest.mark.parametrize(("path", "method", "one"), OPERATIONS, ids=IDS)
def test_an_operation_says_all_of_itself(path, method, one):
    assert lacking(path, method, one) == []


def test_servers_for_users_and_for_agents_share_nothing_but_what_each_tells_of_itself():
    users, agents = served("elsewhere"), served("only")
    assert users.keys() & agents.keys() == COMMON
    assert {**users, **agents} == ROUTES
    assert {one.access for path, _, one in operations_of(agents) if path not in COMMON} == {"agent"}
    assert "agent" not in {one.access for _, _, one in operations_of(users)}


def test_one_that_says_nothing_of_itself_is_found():
    bare = operation("Do", access="somebody", sample=Sample(), answer=Probe, errors={409: "no"})(lambda *_: Reply())
    assert lacking("/v1/things/{thing}", "GET", bare) == [
        "a summary",
        "a description: give its function a docstring",
        "a sample of its answer",
        "who may call it",
        "what its path names: see PATH_IDS",
        "what causes 409",
    ]


@pytest.mark.parametrize(("path", "method", "one"), OPERATIONS, ids=IDS)
def test_its_samples_are_what_its_documents_and_their_schemas_ask_for(described, path, method, one):
    told = described["paths"][path][method.lower()]
    if one.request is not None:
        one.request.validate_json(json.dumps(one.sample.request).encode())
        for content in told["requestBody"]["content"].values():
            validate(content, described)
    if one.answer is not None:
        one.answer.model_validate_json(json.dumps(one.sample.answer))
        validate(told["responses"][str(one.success)]["content"][JSON], described)


def validate(content, described):
    schema = {**content["schema"], "components": described["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    for sample in content["examples"].values():
        validator.validate(sample["value"])


def test_the_description_is_openapi_and_its_schemas_are_json_schema(described):
    schemathesis.openapi.from_dict(described).validate()
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(described, allow_nan=False)


def test_a_description_that_is_not_openapi_would_be_found(described):
    broken = schemathesis.openapi.from_dict({**described, "paths": {"x": {"get": {}}}})
    with pytest.raises(jsonschema_rs.ValidationError, match="'x'"):
        broken.validate()


def test_every_reference_in_the_description_leads_somewhere(described):
    def follow(value):
        if isinstance(value, dict):
            if "$ref" in value:
                found = described
                for step in value["$ref"].removeprefix("#/").split("/"):
                    found = found[step]
            for below in value.values():
                follow(below)
        elif isinstance(value, list):
            for below in value:
                follow(below)

    follow(described)


def test_names_and_anchors_are_had_by_one_alone(described):
    names = [openapi.operation_id(one) for _, _, one in OPERATIONS]
    groups = reference.groups(ROUTES, described)
    titles = [group.title for group in groups] + [entry.title for group in groups for entry in group.entries]
    titles += [document.title for document in reference.documents(described)] + ["documents"]
    for found in (names, list(map(reference.anchor, titles))):
        assert [name for name, count in Counter(found).items() if count > 1] == []


def test_every_error_has_the_problem_document_and_what_may_be_tried_again_says_when(described):
    for _, _, told in every(described):
        for status, answer in told["responses"].items():
            assert "X-Openstack-Request-Id" in answer["headers"]
            if int(status) >= 400:
                assert answer["content"]["application/problem+json"]["schema"] == {"$ref": f"{openapi.SCHEMAS}Problem"}
            if int(status) in {429, 503}:
                assert "Retry-After" in answer["headers"]
        if "201" in told["responses"] and "200" not in told["responses"]:
            assert "Location" in told["responses"]["201"]["headers"]


def every(described):
    return [(path, method, told) for path, methods in described["paths"].items() for method, told in methods.items()]


def test_who_may_call_is_told_to_programs(described):
    patch = described["paths"]["/v1/accelerators/{uuid}"]["patch"]
    assert (patch[openapi.LEAST_ROLE], patch["security"]) == ("manager", [{"bearer": []}])
    probe = described["paths"]["/healthz"]["get"]
    assert (probe[openapi.LEAST_ROLE], probe["security"]) == ("anybody", [])


def test_every_field_of_every_document_is_told_of(described):
    untold = [
        f"{name}.{field}"
        for name, schema in described["components"]["schemas"].items()
        for field, one in schema.get("properties", {}).items()
        if not one.get("description") and "$ref" not in json.dumps(one)
    ]
    assert untold == []


def test_a_parameter_is_left_out_and_never_null(described):
    listed = described["paths"]["/v1/accelerators"]["get"]["parameters"]
    state = next(one for one in listed if one.get("name") == "state")
    assert state["schema"]["enum"] == ["ready", "inactive", "maintenance"]
    assert "null" not in json.dumps(listed)


def test_a_sample_that_is_wrong_would_be_found():
    with pytest.raises(ValidationError):
        Probe.model_validate_json('{"status": "well"}')
