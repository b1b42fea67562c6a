"""
Actions: what a route does with a request. One module for each word of the route language.

An action is a small dataclass that provides `IAction`. Its fields are the
arguments of the route line (`Template`, `tuple[Template, ...]`, `str`, `int`,
`float`, `bool` or an Enum). A field called `context` gets the `ActionContext`, one
called `word` the word of the route line. A field `as_` is written `as=`. The class
attribute `bare` names the field that a first text without `=` is for.
"""
