"""jupyter_kernel_test, with every sample that it knows of, for the kernel installed as FIRSTFRAME_TEST_KERNEL."""

import os
import unittest

import jupyter_kernel_test

KERNEL = os.environ.get("FIRSTFRAME_TEST_KERNEL", "firstframe")


class FirstframeKernelTests(jupyter_kernel_test.KernelTests):
    kernel_name = KERNEL
    language_name = "typescript"
    file_extension = ".ts"

    code_hello_world = "console.log('hello, world')"
    code_stderr = "console.error('test')"

    completion_samples = [
        {"text": "'abc'.toUpperC", "matches": {"toUpperCase"}},
        {"text": "Math.sqr", "matches": {"sqrt"}},
        {"text": "new Date().getUTCFu", "matches": {"getUTCFullYear"}},
        {"text": "[1, 2].map((v) => v.toFix", "matches": {"toFixed"}},
    ]

    complete_code_samples = ["1", "let a = 1;", "function f(x: number): number {\n  return x * 2;\n}", "type T = { a: 1 }"]
    incomplete_code_samples = ["function f() {", "console.log('a',", "const s = `abc", "if (true) {", "/* open", "[1,"]
    invalid_code_samples = ["let 1x = 2;", ") + 1", "const = 5", "class { }"]

    code_page_something = "parseInt?"

    code_generate_error = "throw new Error('on purpose')"

    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": "'text'", "result": "'text'"},
        {"code": "[1, { two: 'zwei' }]", "result": "[ 1, { two: 'zwei' } ]"},
        {"code": "await Promise.resolve(1 + 2 + 3)", "result": "6"},
        {"code": "({ [Symbol.for('Jupyter.display')]: () => ({ 'text/html': '<b>x</b>' }) })", "mime": "text/html", "result": "<b>x</b>"},
    ]

    code_display_data = [
        {"code": "display.html('<b>bold</b>')", "mime": "text/html"},
        {"code": "display.markdown('**bold**')", "mime": "text/markdown"},
        {"code": "display.png(new Uint8Array([137, 80, 78, 71]))", "mime": "image/png"},
        {"code": "display.json({ a: 1 })", "mime": "application/json"},
        {"code": "display({ a: 1 })", "mime": "text/plain"},
    ]

    code_history_pattern = "6 [*]*"
    supported_history_operations = ("tail", "range", "search")

    code_inspect_sample = "parseInt"
    code_clear_output = "clearOutput()"


class FirstframeIopubWelcomeTests(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = KERNEL
    support_iopub_welcome = True


class NoneLeftOut(unittest.TestCase):
    """A sample that is missing would skip its test in silence."""

    def test_every_sample_is_given(self):
        for name in dir(jupyter_kernel_test.KernelTests):
            if name.endswith(("_samples", "_sample")) or name.startswith("code_"):
                self.assertTrue(getattr(FirstframeKernelTests, name), name)


if __name__ == "__main__":
    unittest.main()
