"""Types into `jupyter console` on a terminal as a person does, and prints what it showed: console.py PATH-OF-JUPYTER"""

import os
import re
import sys

import pexpect

child = pexpect.spawn(
    sys.argv[1],
    ["console", "--kernel", "firstframe"],
    encoding="utf8",
    timeout=600,
    dimensions=(40, 120),
    env={**os.environ, "TERM": "xterm"},
)
seen = []


def see(pattern):
    child.expect(pattern)
    seen.append(child.before + child.after)


def prompt(number):
    see(rf"In \[[^\]]*m{number}\x1b[^\]]*\]: ")


prompt(1)
child.send("const answer: number = 41\r")
prompt(2)
child.send("answer + 1\r")
see("Out.*42")
prompt(3)
child.send("for (const i of [1, 2]) {\r")  # incomplete: the console asks for more
see(r"\.\.\.: ")
child.send("console.log(`line ${i}`)\r")
see(r"\.\.\.: ")
child.send("}\r")
see("line 1[\r\n]+line 2")
prompt(4)
child.send("const wrong: string = 3\r")
see("TS2322: Type 'number' is not assignable to type 'string'.")
prompt(5)
child.send("process.stdo\t")
see("process.stdout")
child.send("\x15exit\r")
child.expect(pexpect.EOF)
seen.append(child.before)
child.close()
print(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", "".join(seen)))
sys.exit(child.exitstatus)
