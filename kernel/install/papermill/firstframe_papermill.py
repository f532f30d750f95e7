"""Lets papermill set the parameters of TypeScript notebooks.

papermill loads the engines that packages announce when it is imported, and asks nobody for translators: so this module announces
papermill's own engine under another name, and registers the translator while it is loaded.
"""

import json
import math
import re
import threading

from papermill.engines import NBClientEngine as Engine
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

__all__ = ["Engine", "TypeScriptTranslator"]

STRING = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`"
DECLARATION = re.compile(
    r"^(?:[ \t]*/\*\*[ \t]*(?P<doc>[^\n]*?)[ \t]*\*/[ \t]*\n)?"
    r"[ \t]*(?:export[ \t]+)?(?P<keyword>const|let|var)[ \t]+(?P<name>[A-Za-z_$][\w$]*)"
    rf"(?:\s*:\s*(?P<type>(?:{STRING}|[^=\"'`])*?))?\s*="
    rf"\s*(?P<value>(?:{STRING}|/(?!/)|[^\"'`/;])*?)\s*(?:;|$)[ \t]*(?://[ \t]*(?P<help>[^\n]*))?",
    re.MULTILINE,
)


class TypeScriptTranslator(Translator):
    """Writes parameters as the cell tagged `parameters` declares them, so that they keep their types.

    papermill shows a translator that cell (`inspect`) before it asks for the cell that sets the values (`codify`).
    """

    _seen = threading.local()

    @classmethod
    def inspect(cls, parameters_cell):
        found = list(DECLARATION.finditer(parameters_cell["source"]))
        cls._seen.declared = {
            match["name"]: (match["keyword"], match["type"]) for match in found if match["type"]
        }
        return [
            Parameter(
                name=match["name"],
                inferred_type_name=match["type"] or "None",
                default=match["value"],
                help=match["help"] or match["doc"] or "",
            )
            for match in found
        ]

    @classmethod
    def codify(cls, parameters, comment="Parameters"):
        declared = getattr(cls._seen, "declared", {})
        cls._seen.declared = {}
        lines = [cls.comment(comment)]
        for name, value in parameters.items():
            # Without a declared type `let` widens: a `const` could be compared with its own value only.
            keyword, annotation = declared.get(name, ("let", None))
            typed = name if annotation is None else f"{name}: {annotation}"
            lines.append(f"{keyword} {cls.assign(typed, cls.translate(value))};")
        return "\n".join(lines) + "\n"

    @classmethod
    def comment(cls, cmt_str):
        return f"// {cmt_str}".strip()

    @classmethod
    def translate_none(cls, val):
        return "null"

    @classmethod
    def translate_escaped_str(cls, str_val):
        # JSON's strings are TypeScript's.
        return json.dumps(str(str_val), ensure_ascii=False)

    @classmethod
    def translate_float(cls, val):
        if math.isfinite(val):
            return repr(val)
        return "NaN" if math.isnan(val) else "Infinity" if val > 0 else "-Infinity"

    @classmethod
    def translate_list(cls, val):
        return f"[{', '.join(cls.translate(item) for item in val)}]"

    @classmethod
    def translate_dict(cls, val):
        return f"{{{', '.join(f'{cls.translate_str(str(key))}: {cls.translate(item)}' for key, item in val.items())}}}"


for language in ("typescript", "firstframe"):
    papermill_translators.register(language, TypeScriptTranslator)
