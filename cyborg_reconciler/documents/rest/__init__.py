# SPDX-License-Identifier: Apache-2.0
"""What travels over the REST API: the bodies of requests and answers, one noun a module. OpenAPI is made from them."""
