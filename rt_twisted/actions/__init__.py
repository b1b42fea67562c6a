"""
What a route does with a request; one module a word of the route language.

An action is a small dataclass that provides `IAction`. Its fields are the
arguments of the route line (`Template`, `tuple[Template, ...]`, `str`, `int`,
`float`, `bool` or an Enum); a field called `house` gets the `House`, one called
`word` the word of the route line; the class attribute `bare` names the field
that a text without `=` is for.
"""
