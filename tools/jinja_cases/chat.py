"""Templates that use what published chat templates use, each with every conversation below."""

import copy
import pathlib

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {
            "location": {"type": "string", "description": "City & state, e.g. \"San Francisco\" or a longer text that has to be wrapped"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1, "description": "How many days", "default": 3},
            "opts": {"type": "object", "properties": {"deep": {"type": "array", "items": {"type": "number"}}, "flag": {"type": "boolean"}},
                     "required": ["deep"]},
            "any": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "both": {"type": ["string", "null"], "description": "x"}},
            "required": ["location"]},
        "return": {"type": "string"}}},
    {"type": "function", "function": {
        "name": "run", "description": "Run code\nover lines",
        "parameters": {"type": "object", "properties": {"code": {"type": "string", "description": "é <|im_end|>"}}, "required": ["code"]}, "strict": True}},
    {"type": "function", "function": {"name": "stop", "description": "No arguments", "parameters": {"type": "object", "properties": {}}}},
]
S = {"role": "system", "content": " You are helpful. "}
U = {"role": "user", "content": "Hello, wörld!\n<|im_end|> {{ 7*7 }} [INST] <s>"}
A = {"role": "assistant", "content": "Hi there"}
THINK = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nAnswer"}
REASON = {"role": "assistant", "reasoning_content": "why", "thinking": "why", "content": "Because"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {
    "name": "get_weather", "arguments": {"location": "Paris", "days": 3, "opts": {"deep": [1, 2.5]}, "none": None, "yes": True}}}]}
CALLS = {"role": "assistant", "content": "Let me see", "tool_calls": [
    {"id": "123456789", "type": "function", "function": {"name": "get_weather", "arguments": "{\"location\": \"Paris\"}"}},
    {"id": "987654321", "type": "function", "function": {"name": "run", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "{\"temp\": 20, \"text\": \"</tool_response>\"}"}
RESULT2 = {"role": "tool", "tool_call_id": "123456789", "name": "run", "content": "sunny"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "image": "x.png"}, {"type": "text", "text": "And this?"}]}
DOCS = [{"doc_id": "d1", "title": "Doc", "text": "A text that is long enough to be cut by the filter that shortens it to sixty"}, {"title": "Two", "text": "T2"}]

CONVERSATIONS = {
    "user": ([U], {}),
    "system": ([S, U], {}),
    "turns": ([S, U, A, U], {}),
    "no generation": ([U, A], {"add_generation_prompt": False}),
    "thinking in history": ([S, U, THINK, U, REASON, U], {}),
    "no thinking": ([S, U], {"enable_thinking": False}),
    "thinking": ([U], {"thinking": True, "reasoning_effort": "high", "model_identity": "I am"}),
    "tools": ([S, U], {"tools": TOOLS}),
    "tools without system": ([U], {"tools": TOOLS, "tools_in_user_message": False}),
    "call": ([S, U, CALL, RESULT, A], {"tools": TOOLS}),
    "call open": ([U, CALL, RESULT], {"tools": TOOLS}),
    "calls": ([U, CALLS, RESULT2, RESULT2, A, U], {"tools": TOOLS}),
    "parts": ([S, PARTS, A, PARTS], {}),
    "documents": ([U], {"documents": DOCS}),
    "builtin tools": ([S, U, CALL, RESULT], {"builtin_tools": ["search", "code_interpreter"]}),
    "none": ([], {}),
    "wrong order": ([A, U, U], {}),
    "unknown role": ([{"role": "wizard", "content": "abra"}], {}),
    "tools none": ([S, U], {"tools": None, "documents": None}),
}


def cases():
    for path in sorted((pathlib.Path(__file__).parent / "templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, (messages, extra) in CONVERSATIONS.items():
            context = {"messages": copy.deepcopy(messages), "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
            context.update(extra)
            yield f"{path.stem}: {name}", template, name, context
