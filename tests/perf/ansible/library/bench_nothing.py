# SPDX-License-Identifier: Apache-2.0
"""What does the least module cost? It takes the parameters of a fact module and returns nothing; `facts` compares."""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Do nothing."""
    arguments = {"root": {"type": "path", "default": "/"}, "connection": {"type": "str"}}
    AnsibleModule(argument_spec=arguments, supports_check_mode=True).exit_json()


if __name__ == "__main__":
    main()
