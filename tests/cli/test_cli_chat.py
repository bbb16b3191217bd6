#!/usr/bin/env python3
"""quern chat at a terminal and over a pipe: editing, history, commands, Ctrl-C."""
import json
import os
import stat
import tempfile

from cli_helper import MODEL, Checks, run
from terminal_session import Session

PROMPT = r"(?m)^> $"
GREEDY = ("chat", MODEL, "--temp", "0", "-n", "24")


def check_conversation(checks, home):
    saved = os.path.join(home, "saved.json")
    with Session(home, *GREEDY) as s:
        checks.that(s.wait_for(PROMPT), "chat: a prompt", s.new())
        checks.that("/help" in s.new() and "context 2048" in s.new(), "chat: greets with what it is", s.new())
        s.type("Write a Python function that adds two numberz\x7fs.\n")
        checks.that(s.wait_for(r"def [\s\S]*\n> $"), "chat: an answer, then the prompt again", s.new())
        s.type("/stats\n")
        checks.that(s.wait_for(r"last answer: \d+ tokens[\s\S]*> $"), "chat: /stats", s.new())
        s.type("/system Be brief.\n")
        checks.that(s.wait_for(r"system message set\n> $"), "chat: /system", s.new())
        s.type(f"/save {saved}\n")
        checks.that(s.wait_for(r"2 messages saved[\s\S]*> $"), "chat: /save", s.new())
        s.type(f"/save {saved}\n")
        checks.that(s.wait_for(r"exists already; /save! replaces it\n> $"), "chat: /save spares a file", s.new())
        s.type("/retyr\n")
        checks.that(s.wait_for(r"did you mean /retry"), "chat: a slip gets a suggestion, no answer", s.new())
        s.type("/retry\n")
        checks.that(s.wait_for(r"temperature 0[\s\S]*def [\s\S]*\n> $"), "chat: /retry answers again", s.new())
        s.type("/reset\n")
        checks.that(s.wait_for(r"forgotten; the system message stays\n> $"), "chat: /reset", s.new())
        s.type(f"/load {saved}\n")
        checks.that(s.wait_for(r"2 messages from[\s\S]*> $"), "chat: /load", s.new())
        s.type("/load no/such.json\n")
        checks.that(s.wait_for(r"no/such.json: cannot open[\s\S]*> $"), "chat: /load of nothing goes on", s.new())
        s.type('"""Write a\n')
        checks.that(s.wait_for(r"(?m)^\. $"), "chat: a message of several lines", s.new())
        s.type('function."""\n')
        checks.that(s.wait_for(r"\S[\s\S]*\n> $"), "chat: which is answered at its end", s.new())
        s.type("/exit\n")
        checks.that(s.wait_end() == 0, "chat: /exit ends with 0")
    with open(saved, encoding="utf-8") as f:
        messages = json.load(f)["messages"]
    checks.that([m["role"] for m in messages] == ["system", "user", "assistant"], "chat: what /save wrote", messages)
    checks.that(messages[1]["content"] == "Write a Python function that adds two numbers.", "chat: a typing error was corrected", messages[1])


def check_history(checks, home):
    history = os.path.join(home, "quern", "chat_history")
    if not checks.that(os.path.isfile(history), "chat: the line history is kept"):
        return
    checks.that(stat.S_IMODE(os.stat(history).st_mode) == 0o600, "chat: and is nobody else's")
    with Session(home, *GREEDY) as s:
        s.wait_for(PROMPT)
        s.type("\x10\x10\x10")  # Ctrl-P: lines of the session before
        checks.that(s.wait_for(r"/load"), "chat: earlier lines come back", s.new())
        s.type("\x15\x04")  # Ctrl-U empties the line, Ctrl-D leaves
        checks.that(s.wait_end() == 0, "chat: Ctrl-D ends with 0")


def check_interrupt(checks, home):
    with Session(home, "chat", MODEL, "--temp", "0", "--ignore-eos", "-c", "32k") as s:
        s.wait_for(PROMPT)
        s.type("Count.\n")
        checks.that(s.wait_for(r"Count\.\n[\s\S]{80}"), "chat: a long answer begins", s.new())
        s.type("\x03")
        checks.that(s.wait_for(r"\(stopped; [\s\S]*> $"), "chat: Ctrl-C stops the answer, not the program", s.new()[-300:])
        s.type("/stats\n")
        checks.that(s.wait_for(r"context: \d+ of 32768"), "chat: which goes on", s.new())
        s.wait_for(PROMPT)
        s.type("half a line\x03")
        checks.that(s.wait_for(r"Ctrl-C again[\s\S]*> $"), "chat: Ctrl-C at the prompt drops the line", s.new())
        s.type("\x03")
        checks.that(s.wait_end() == 130, "chat: twice leaves with 130", s.code)
    with Session(home, "chat", MODEL, "--temp", "0", "--ignore-eos", "-c", "32k") as s:
        s.wait_for(PROMPT)
        s.type("Count.\n")
        s.wait_for(r"Count\.\n[\s\S]{80}")
        s.type("\x03")
        s.wait_for(r"\(stopped; [\s\S]*> $")
        s.type("\x03")
        checks.that(s.wait_end() == 130, "chat: Ctrl-C during an answer and again leaves with 130", s.code)


def check_colours(checks, home):
    with Session(home, *GREEDY, NO_COLOR="1") as s:
        s.wait_for(PROMPT)
        checks.that(b"\x1b[3" not in s.seen and b"\x1b[1m" not in s.seen and b"\x1b[2m" not in s.seen, "chat: NO_COLOR", s.seen)
    with Session(home, *GREEDY, NO_COLOR="") as s:
        s.wait_for(PROMPT)
        checks.that(b"\x1b[36m" in s.seen, "chat: colours at a terminal", s.seen)


def check_context(checks, home):
    with Session(home, "chat", MODEL, "--temp", "0", "-c", "64", "-n", "8") as s:
        s.wait_for(PROMPT)
        s.type("word " * 80 + "\n")
        checks.that(s.wait_for(r"context is full: the conversation has \d+ tokens, 64 fit[\s\S]*> $"), "chat: a full context is told with both numbers", s.new())
        s.type("Hi.\n")
        checks.that(s.wait_for(r"Hi\.\n[\s\S]*\S[\s\S]*\n> $"), "chat: the message was forgotten, the chat goes on", s.new())


def check_pipe(checks):
    done = run(*GREEDY, stdin=b"Write a function.\n/reset\nWrite a function.\n")
    checks.exit_code(done, 0, "chat over a pipe")
    half = len(done.stdout) // 2
    checks.that(done.stdout and done.stdout[:half] == done.stdout[half:], "chat over a pipe: the same question alone gives the same answer", done.stdout)
    checks.that(b"> " not in done.stdout and b"\x1b" not in done.stdout, "chat over a pipe: answers and nothing else")
    done = run("chat", MODEL, "-c", "64", stdin=b"word " * 80 + b"\n")
    checks.exit_code(done, 4, "chat over a pipe, context full")


def check_failing_turn(checks):
    """Over a pipe a turn that does not fit ends the conversation; with --json the turns before it are there all the same, and the error."""
    long = b"word " * 400
    done = run("chat", MODEL, "--json", "--temp", "0", "-n", "8", "-c", "128", stdin=b"hi\n" + long + b"\nnever\n")
    checks.exit_code(done, 4, "chat --json: a turn that does not fit")
    doc = json.loads(done.stdout)
    checks.that(len(doc.get("turns", [])) == 1 and [m["role"] for m in doc["messages"]] == ["user", "assistant"], "chat --json: the turn before it is kept", doc)
    checks.that("the context is full" in doc["error"]["message"], "chat --json: and the error is there", doc)
    done = run("chat", MODEL, "--json", "-c", "128", stdin=long + b"\n")
    checks.that(done.returncode == 4 and "turns" not in json.loads(done.stdout), "chat --json: nothing went well", done.stdout)


def check_reuse(checks, home):
    """What is kept between turns changes nothing: the second answer is that of a program that reads everything anew."""
    done = run(*GREEDY, "--json", stdin=b"Write a Python function that adds two numbers.\nNow three numbers.\n/retry\n")
    doc = json.loads(done.stdout)
    first, second, third = doc["turns"]
    path = os.path.join(home, "messages.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(doc["messages"][:3], f)
    fresh = json.loads(run("run", MODEL, "--messages", path, "--temp", "0", "-n", "24", "--json").stdout)
    checks.that(first["reused_tokens"] == 0 and second["reused_tokens"] > first["prompt_tokens"], "chat: the second turn reuses the first", doc["turns"])
    checks.that(fresh["token_ids"] == second["token_ids"] == third["token_ids"], "chat: and answers as if it had read everything anew", (fresh, second))
    checks.that(fresh["prompt_tokens"] == second["prompt_tokens"] == third["reused_tokens"] + 1, "chat: a retry computes one token anew", third)


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as home:
        check_conversation(checks, home)
        check_history(checks, home)
        check_interrupt(checks, home)
        check_colours(checks, home)
        check_context(checks, home)
        check_reuse(checks, home)
    check_pipe(checks)
    check_failing_turn(checks)
    checks.close()


if __name__ == "__main__":
    main()
