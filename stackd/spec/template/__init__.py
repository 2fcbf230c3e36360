"""Go's template language as far as stack files use it: `{{.Service.Name}}` in a setting, `{{env "X"}}` in a config.

parse       text to nodes; every mistake in the form is found here
lex         text to tokens
evaluate    nodes and values to text
functions   what can be called
"""

from stackd.spec.template.evaluate import render
from stackd.spec.template.functions import FUNCTIONS, Function
from stackd.spec.template.lex import TemplateError
from stackd.spec.template.parse import Template, parse

__all__ = ["FUNCTIONS", "Function", "Template", "TemplateError", "parse", "render"]
