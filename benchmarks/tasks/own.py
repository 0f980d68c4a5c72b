"""A metric of our own, for the chat: does the answer name the customer's order, and no other?"""

import re


def names_the_order(output: str, expected: str) -> bool:
    """Share of answers that name the order the customer gave, and no other one."""
    pattern = r"LK-\d+"
    return set(re.findall(pattern, output)) == set(re.findall(pattern, expected))
