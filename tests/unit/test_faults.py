# SPDX-License-Identifier: Apache-2.0
"""What is said of a body or a parameter that is wrong: what, in the words of the documents, and what would be right."""

import itertools
import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from cyborg_reconciler.documents.rest.accelerator import AcceleratorGiven, AttachmentOrSpecs
from cyborg_reconciler.documents.rest.faults import faults
from cyborg_reconciler_api.app import all_operations
from cyborg_reconciler_api.resources import accelerators, events

#: How pydantic speaks.
ITS_WORDS = re.compile(r"Input|Value error|validation|permitted|String|Field|Tuple|Extra|pattern|pars")

ODD = (None, True, 5, "", "odd", "n" * 5000, [], ["odd"], {}, {"odd": 1})
OPERATIONS = [one for _, _, one in all_operations() if isinstance(one.request, TypeAdapter) or one.query]


def judged(form, value, *, strict=True):
    """What is wrong with *value*, by its path."""
    try:
        if strict:
            TypeAdapter(form).validate_json(json.dumps(value))
        else:
            form.model_validate(value, strict=False)
    except ValidationError as verdict:
        return {one.path: one.message for one in faults(form, verdict)}
    return {}


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (AcceleratorGiven, {}, {"$.name": 'is missing; add, e.g. "IPSec Card"'}),
        (AcceleratorGiven, [], {"$": "a list is not a block of fields"}),
        (AcceleratorGiven, {"name": 5}, {"$.name": "5 is not text"}),
        (AcceleratorGiven, {"name": ""}, {"$.name": "is empty"}),
        (AcceleratorGiven, {"name": " "}, {"$.name": "is not one line of text that can be seen"}),
        (AcceleratorGiven, {"name": "n" * 256}, {"$.name": "has more than 255 characters"}),
        (AcceleratorGiven, {"name": "n", "adress": 1}, {"$.adress": "there is no such field; did you mean address?"}),
        (
            AcceleratorGiven,
            {"name": "n", "acc_specs": {"num": "1"}},
            {"$.acc_specs.num": '"1" is not a whole number from 0 to 2147483647'},
        ),
        (AcceleratorGiven, {"name": "n", "address": "0000:3b:00.0"}, {"$": "an address needs the host that it is on"}),
        (
            AcceleratorGiven,
            {"name": "n", "uuid": "\x1b[2J"},
            {
                "$.uuid": r'"\U0000001b[2J" is not a uuid in lower case, with dashes; '
                'write, e.g. "8e45a2ea-5364-4b0d-a252-bf8becaa606e"'
            },
        ),
        (
            AttachmentOrSpecs,
            {"acc_specs": {}, "name": "n"},
            {"$": "acc_specs updates the specification, anything else attaches: send one of them"},
        ),
        (accelerators.Patch, [], {"$": "is empty"}),
        (
            accelerators.Patch,
            [{"op": "test", "path": "/name", "value": 1}] * 17,
            {"$": "has more than 16 items"},
        ),
        (
            accelerators.Patch,
            [{"op": "remove", "path": "/name", "value": 1}],
            {"$[0].op": '"remove" is not one of add, replace, test'},
        ),
    ],
)
def test_it_is_said_what_is_wrong_and_what_would_be_right(form, value, said):
    assert judged(form, value) == said


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (accelerators.AcceleratorQuery, {"limit": "0"}, '"0" is not a whole number from 1 to 1000'),
        (accelerators.AcceleratorQuery, {"attached": "x"}, '"x" is not true or false'),
        (accelerators.AcceleratorQuery, {"sort": "color"}, '"color" is not of this form; write, e.g. "name:asc"'),
        (events.EventQuery, {"since": "2026-01-05T12:00:00"}, "is not a time with a zone, such as"),
    ],
)
def test_parameters_are_judged_alike(form, value, said):
    (told,) = judged(form, value, strict=False).values()
    assert said in told


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: f"{one.run.__module__}.{one.run.__name__}")
def test_whatever_is_sent_the_words_are_ours(one):
    told = []
    if isinstance(one.request, TypeAdapter):
        fields = list(one.request.json_schema().get("properties", {}))
        bodies = [*ODD, *({name: value} for name, value in itertools.product(fields, ODD)), [{"op": "odd"}]]
        told += [words for body in bodies for words in judged(one.form, body).values()]
        assert told
    if one.query:
        for name, value in itertools.product([*one.query.model_fields, "odd"], ("", "odd", "-1", "9" * 99)):
            told += judged(one.query, {name: value}, strict=False).values()
    assert [words for words in told if ITS_WORDS.search(words) or not words.isprintable()] == []
