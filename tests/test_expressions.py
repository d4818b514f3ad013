"""What a reader may type as a function, and what is said of the rest."""

import pytest

from explorer.expressions import check_expression


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x**2 + y**2", {"x", "y"}),
        ("  (x - 5) ** 2\n", {"x"}),
        ("torch.sin(3 * x) * torch.exp(-y**2 / 2)", {"x", "y"}),
        ("x.sin() + y.abs().sqrt()", {"x", "y"}),
        ("abs(x) + pow(y, 2) + math.pi", {"x", "y"}),
        ("torch.where(x > 0, x, -y)", {"x", "y"}),
        ("torch.nn.functional.softplus(x, beta=2.0)", {"x"}),
        ("-y", {"y"}),
    ],
)
def test_expression_is_kept_as_typed(text: str, names: set[str]) -> None:
    assert check_expression(text, ("x", "y")) == (" ".join(text.split()), names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no function"),
        ("   ", "there is no function"),
        ("x**2 +", "Python cannot read the function"),
        ("2x + y", "write 2 \\* x for 2x"),
        ("(x + y", "close every bracket"),
        ("x^2", "\\^ is not a power in Python: write x\\*\\*2"),
        ("x² + y", "write \\*\\*2 for ²"),
        ("x \u2212 y", "write - for"),
        ("x \u00b7 y", "write \\* for"),
        ("sin(x) + y", "write torch.sin"),
        ("pi * x", "write math.pi"),
        ("max(x, y)", "write torch.maximum"),
        ("x + z", "'z' is not known here: the variables are x and y"),
        ("math.sin(x)", "write torch.sin"),
        ("f = x**2", "type the expression alone"),
        ("import os", "type the expression alone"),
        ("print(x)", "'print' is not known here"),
        ("__import__('os').system('ls')", "not"),
        ("[i for i in x]", "cannot stand in a function"),
        ("lambda: x", "cannot stand in a function"),
        ("(z := x)", "cannot stand in a function"),
        ("x if x > 0 else y", "cannot stand in a function"),
        ("f'{x}'", "cannot stand in a function"),
        ("x + 'a'", "'a' is not a real number"),
        ("x + 1j", "1j is not a real number"),
        ("x + True", "True is not a real number"),
        ("3.0", "does not depend on x or y"),
        ("torch.tensor(1.0)", "does not depend on x or y"),
        ("x" + "+x" * 300, "601 characters; at most 500"),
        ("(" * 240 + "x" + ")" * 240, "Python cannot read|function"),
        ("x\0", "Python cannot read"),
        ("\ud800", "Python cannot read"),
    ],
)
def test_anything_else_is_refused_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_expression(text, ("x", "y"))
