# SPDX-License-Identifier: Apache-2.0
"""From where a request comes: what trusted proxies say, and nobody else."""

from ipaddress import ip_network

import pytest

from cyborg_reconciler_api.proxies import behind, origin

OURS = [ip_network("10.0.0.0/8"), ip_network("::1/128")]


@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),  # everybody can say so
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, <script>, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("", "203.0.113.9", ""),
    ],
)
def test_the_last_address_before_the_trusted_ones_is_it(peer, said, found):
    assert origin(peer, said, OURS) == found


def test_without_trusted_proxies_nothing_stands_before_the_application():
    def app(_environ, _start_response):
        return [b""]

    assert behind(app, []) is app


def test_the_application_sees_where_a_request_came_from():
    def app(environ, _start_response):
        return [environ["REMOTE_ADDR"].encode()]

    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    assert behind(app, ["10.0.0.0/8"])(environ, lambda *_: None) == [b"203.0.113.9"]
