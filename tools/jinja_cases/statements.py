"""Statements: loops, branches, scopes, macros, white space. Cases are separated by lines of ---; the first line is the name."""

CONTEXT = {
    "xs": [3, 1, 2], "ys": ["b", "A", "c"], "e": [], "d": {"a": 1, "b": [1, 2]}, "pairs": [[1, "x"], [2, "y"]], "s": "text", "n": None,
    "x": "ctx-x", "y": "ctx-y", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}],
    "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}, {"v": 5, "kids": []}],
    "t": True, "f": False, "html": "<a&b>",
}

SOURCE = r"""
for
{% for i in xs %}{{ i }},{% endfor %}
---
for else empty
{% for i in e %}{{ i }}{% else %}none{% endfor %}
---
for else not empty
{% for i in xs %}{{ i }}{% else %}none{% endfor %}
---
for else after break
{% for i in xs %}{{ i }}{% break %}{% else %}ELSE{% endfor %}
---
for else after break later
{% for i in xs %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}ELSE{% endfor %}
---
for else all continue
{% for i in xs %}{{ i }}{% continue %}{% else %}ELSE{% endfor %}
---
for if filter
{% for i in xs if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ '!' if loop.last }} {% endfor %}
---
for if filter none
{% for i in xs if i > 9 %}{{ i }}{% else %}nothing{% endfor %}
---
for if uses outer variable
{% set lim = 2 %}{% for i in xs if i >= lim %}{{ i }}{% endfor %}
---
for if unpack
{% for a, b in pairs if a > 1 %}{{ a }}{{ b }}{{ loop.previtem is defined }}{% endfor %}
---
for if unpack makes tuples
{% for a, b in pairs if a %}{{ loop.nextitem }}{% endfor %}
---
for nextitem without filter
{% for a, b in pairs %}{{ loop.nextitem }}{% endfor %}
---
for if loop is not there
{% for i in xs if loop.index > 1 %}{{ i }}{% endfor %}
---
for if sees outer loop
{% for j in xs %}{% for i in xs if loop.index > 1 %}{{ i }}{% endfor %};{% endfor %}
---
for if lazy test
{% set ns = namespace(stop=false) %}{% for i in xs if not ns.stop %}{{ i }}{% set ns.stop = true %}{% endfor %}
---
for if lazy test with peek
{% set ns = namespace(stop=false) %}{% for i in xs if not ns.stop %}{{ i }}{{ loop.last }}{% set ns.stop = true %}{% endfor %}
---
loop attributes
{% for i in ys %}{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.depth }} {{ loop.depth0 }} {{ loop.previtem }} {{ loop.nextitem }} {{ loop.cycle('odd', 'even') }} {{ loop.changed(i) }}
{% endfor %}
---
loop repr
{% for i in xs %}{{ loop }}{% endfor %}
---
loop length filter
{% for i in xs %}{{ loop|length }}{% endfor %}
---
loop unknown attribute
{% for i in xs %}{{ loop.nope }}{{ loop.nope is defined }}{% endfor %}
---
loop as item
{% for i in xs %}{{ loop['index'] }}{% endfor %}
---
loop changed
{% for i in [1, 1, 2, 2, 1] %}{{ i if loop.changed(i) else '-' }}{% endfor %}
---
loop changed several
{% for i in [1, 1, 2] %}{{ loop.changed(i, 'x') }}{% endfor %}
---
loop cycle none
{% for i in xs %}{{ loop.cycle() }}{% endfor %}
---
loop of generator
{% for i in xs|map('string') %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{{ loop.revindex }} {% endfor %}
---
loop of generator last only
{% for i in xs|select('odd') %}{{ i }}{{ ',' if not loop.last }}{% endfor %}
---
generator is used up
{% set g = xs|map('string') %}{{ g|join }}|{{ g|join }}|{{ g|list }}
---
generator truth
{% set g = xs|select('gt', 5) %}{{ 'yes' if g else 'no' }}
---
generator in
{% set g = xs|map('string') %}{{ '1' in g }}{{ g|list }}
---
loop over dict
{% for k in d %}{{ k }}{% endfor %}{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for v in d.values() %}{{ v }}{% endfor %}
---
loop over string
{% for c in 'aé日' %}{{ c }}-{% endfor %}
---
loop over undefined
{% for i in nope %}{{ i }}{% else %}E{% endfor %}
---
loop over int
{% for i in 5 %}{% endfor %}
---
loop over none
{% for i in none %}{% endfor %}
---
loop over undefined attribute
{% for i in d.zz.q %}{% endfor %}
---
loop unpack error few
{% for a, b, c in pairs %}{{ a }}{% endfor %}
---
loop unpack error many
{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}
---
loop unpack not iterable
{% for a, b in [1] %}{{ a }}{% endfor %}
---
loop unpack string
{% for a, b in ['xy', 'zw'] %}{{ b }}{{ a }}{% endfor %}
---
loop unpack nested
{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}
---
loop tuple target with parentheses
{% for (a, b) in pairs %}{{ a }}{{ b }}{% endfor %}
---
loop over tuple expression
{% for i in 1, 2, 3 %}{{ i }}{% endfor %}
---
loop over ternary
{% for i in (xs if t else ys) %}{{ i }}{% endfor %}
---
loop variable does not leak
{% for i in xs %}{% endfor %}{{ i }}|{{ i is defined }}
---
loop assignment does not leak
{% set v = 0 %}{% for i in xs %}{% set v = v + i %}{{ v }} {% endfor %}{{ v }}
---
loop assignment resets each time
{% for i in xs %}{% if not loop.first %}[{{ w }}]{% endif %}{% set w = i %}{{ w }}{% endfor %}
---
loop assignment hides context
{% for i in xs %}{{ x }}{% set x = i %}{{ x }} {% endfor %}{{ x }}
---
loop assignment before use hides context
{% for i in xs %}{% set x = i %}{{ x }} {% endfor %}{{ x }}
---
conditional assignment in loop sees context
{% for i in xs %}{% if i == 1 %}{% set x = 'set' %}{% endif %}{{ x }} {% endfor %}
---
conditional assignment in loop, unknown outside
{% for i in xs %}{% if i == 1 %}{% set zz = 'set' %}{% endif %}[{{ zz }}]{% endfor %}
---
namespace in loop
{% set ns = namespace(n=0, found=false) %}{% for i in xs %}{% set ns.n = ns.n + i %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}
---
namespace new attribute
{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{{ ns }}
---
namespace assignment on dict
{% set q = {} %}{% set q.a = 1 %}
---
namespace assignment on undefined
{% set nope.a = 1 %}
---
namespace tuple assignment
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
---
namespace mixed tuple assignment
{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}
---
namespace holds itself
{% set ns = namespace(a=1) %}{% set ns.me = ns %}{{ ns.me.me.a }}
---
namespace underscore
{% set ns = namespace(_a=1) %}{% set ns._b = 2 %}{{ ns._a }}{{ ns._b }}
---
nested loops
{% for i in xs %}{% for j in ys %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }};{% endfor %}
---
outer loop kept
{% for i in xs %}{% set outer = loop %}{% for j in ys %}{{ outer.index }}.{{ loop.index }} {% endfor %}{% endfor %}
---
break
{% for i in range(10) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
---
continue
{% for i in range(6) %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}
---
break in nested
{% for i in xs %}{% for j in xs %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
---
break in with and filter block
{% for i in xs %}{% with a=i %}{{ a }}{% filter upper %}lost{% break %}{% endfilter %}{% endwith %}{% endfor %}
---
break in set block
{% for i in xs %}{% set v %}lost{% continue %}{% endset %}{{ v }}{% endfor %}end
---
continue keeps loop index
{% for i in xs %}{% if loop.first %}{% continue %}{% endif %}{{ loop.index }}{{ loop.previtem }}{% endfor %}
---
recursive
{% for n in tree recursive %}{{ n.v }}({{ loop.depth }}{{ loop(n.kids) if n.kids }}){% endfor %}
---
recursive depth and index
{% for n in tree recursive %}[{{ loop.depth0 }}:{{ loop.index }}/{{ loop.length }} {{ n.v }}{{ loop(n.kids) }}]{% endfor %}
---
recursive with else
{% for n in tree recursive %}{{ n.v }}{{ loop(n.kids) }}{% else %}-{% endfor %}
---
recursive with filter
{% for n in tree if n.v != 3 recursive %}{{ n.v }}<{{ loop(n.kids) }}>{% endfor %}
---
recursive sees outer variable
{% set p = '#' %}{% for n in tree recursive %}{{ p }}{{ n.v }}{{ loop(n.kids) }}{% endfor %}
---
recursive break
{% for n in tree recursive %}{{ n.v }}{{ loop(n.kids) }}{% if n.v == 2 %}{% break %}{% endif %}{% endfor %}
---
not recursive but called
{% for n in tree %}{{ loop(n.kids) }}{% endfor %}
---
recursive nested loops
{% for n in tree recursive %}{{ n.v }}{% for k in n.kids %}{{ k.v }}{{ loop.index }}{% endfor %}{{ loop(n.kids) }};{% endfor %}
---
if chain
{% for i in range(5) %}{% if i == 0 %}zero{% elif i == 1 %}one{% elif i in (2, 3) %}two-three{% else %}many{% endif %} {% endfor %}
---
if truth values
{% for v in [0, 1, '', 'a', [], [0], {}, {'a': 1}, none, true, 0.0, 0.1, ()] %}{{ 1 if v else 0 }}{% endfor %}
---
if undefined
{% if nope %}a{% else %}b{% endif %}{% if nope is defined and nope.x %}a{% else %}b{% endif %}
---
if tuple
{% if 1, 2 %}yes{% endif %}
---
if colon
{% if t: %}yes{% endif %}
---
elif unknown filter in dead branch
{% if t %}ok{% elif x|nosuch %}bad{% else %}{{ x|nosuch }}{% endif %}
---
unknown filter in live branch
{% if t %}{{ x|nosuch }}{% endif %}
---
unknown filter in loop in branch
{% if f %}{% for i in xs %}{{ i|nosuch }}{% endfor %}{% endif %}
---
unknown filter in loop iterable in branch
{% if f %}{% for i in xs|nosuch %}{{ i }}{% endfor %}{% endif %}
---
unknown test in macro in branch
{% if f %}{% macro m() %}{{ 1 is nosuch }}{% endmacro %}{% endif %}
---
unknown filter in set block in branch
{% if f %}{% set v %}{{ 1|nosuch }}{% endset %}{% endif %}
---
unknown filter in conditional expression
{{ 'a' if t else x|nosuch }}
---
unknown test called in conditional expression
{{ 'a' if x is nosuch else 'b' }}
---
set
{% set a = 1 %}{% set b = a + 1 %}{{ a }}{{ b }}
---
set tuple
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
---
set nested tuple
{% set (a, (b, c)) = (1, (2, 3)) %}{{ a }}{{ b }}{{ c }}
---
set unpack error
{% set a, b = [1] %}
---
set in if leaks
{% if t %}{% set v = 1 %}{% endif %}{{ v }}
---
set in untaken if
{% if f %}{% set v = 1 %}{% endif %}[{{ v }}]{{ v is defined }}
---
set in untaken if hides nothing
{% if f %}{% set x = 1 %}{% endif %}{{ x }}
---
set swaps
{% set a = 1 %}{% set b = 2 %}{% set a, b = b, a %}{{ a }}{{ b }}
---
set block
{% set v %}a{{ 1 + 1 }}{% for i in xs %}{{ i }}{% endfor %}{% endset %}[{{ v }}]{{ v|length }}
---
set block filter
{% set v | upper | replace('A', 'x') %}abc{% endset %}{{ v }}
---
set block filter with outer name
{% set p = 'b' %}{% set v | replace(p, 'Z') %}abc{{ p }}{% endset %}{{ v }}
---
set block scope
{% set a = 1 %}{% set v %}{% set a = 2 %}{{ a }}{% endset %}{{ v }}{{ a }}
---
set block unpack
{% set a, b %}xy{% endset %}{{ a }}-{{ b }}
---
set block namespace
{% set ns = namespace() %}{% set ns.text %}abc{% endset %}{{ ns.text }}
---
set shadows function
{% set range = 5 %}{{ range }}
---
set true name
{% set True1 = 5 %}{{ True1 }}
---
with
{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
---
with values from outside
{% set a = 1 %}{% with a=2, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}
---
with scope
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
---
with tuple
{% with (a, b) = (1, 2) %}{{ a }}{{ b }}{% endwith %}
---
with sees outer
{% set o = 'o' %}{% with %}{{ o }}{% set o = 'i' %}{{ o }}{% endwith %}{{ o }}
---
filter block
{% filter upper %}abc {{ s }}{% endfilter %}
---
filter block chain
{% filter replace('a', 'x')|upper|trim %}  abc {% endfilter %}
---
filter block scope
{% set a = 1 %}{% filter upper %}{% set a = 'q' %}{{ a }}{% endfilter %}{{ a }}
---
filter block indent
{% filter indent(2, first=true) %}a
b{% endfilter %}
---
macro
{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='z') }}{{ m(b=1, a=2) }}{{ m() }}
---
macro too many arguments
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
---
macro unknown keyword
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
---
macro twice given
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
---
macro missing argument used
{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}
---
macro missing argument printed
{% macro m(a) %}[{{ a }}]{{ a is defined }}{% endmacro %}{{ m() }}
---
macro varargs
{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}{{ m(1) }}
---
macro kwargs
{% macro m(a) %}{{ a }}{{ kwargs }}{% endmacro %}{{ m(1, z=2, q='x') }}{{ m(1) }}
---
macro both
{% macro m() %}{{ varargs|join(',') }};{% for k, v in kwargs.items() %}{{ k }}{{ v }}{% endfor %}{% endmacro %}{{ m(1, 2, k='v') }}
---
macro star arguments
{% macro m(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2], c=3) }}{{ m(1, **{'b': 2, 'c': 4}) }}{{ m(*(1, 2, 3)) }}
---
macro default refers to parameter
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}
---
macro default refers to later parameter
{% macro m(a=b, b=2) %}[{{ a }}]{{ b }}{% endmacro %}{{ m() }}
---
macro default refers to outside
{% set o = 5 %}{% macro m(a=o) %}{{ a }}{% endmacro %}{% set o = 6 %}{{ m() }}
---
macro sees later value
{% macro m() %}{{ late }}{% endmacro %}[{{ m() }}]{% set late = 1 %}{{ m() }}
---
macro sees context
{% macro m() %}{{ x }}{% endmacro %}{{ m() }}
---
macro hides context that is set later
{% macro m() %}[{{ x }}]{% endmacro %}{{ m() }}{% set x = 1 %}{{ m() }}
---
macro own assignment
{% set a = 1 %}{% macro m() %}{% set a = 2 %}{{ a }}{% endmacro %}{{ m() }}{{ a }}
---
macro reads then assigns
{% set a = 1 %}{% macro m() %}{{ a }}{% set a = 2 %}{{ a }}{% endmacro %}{{ m() }}{{ a }}
---
macro recursion
{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
---
macro mutual recursion
{% macro a(n) %}a{% if n %}{{ b(n - 1) }}{% endif %}{% endmacro %}{% macro b(n) %}b{% if n %}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(4) }}
---
macro in macro
{% macro outer(v) %}{% macro inner(w) %}{{ v }}{{ w }}{% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer('x') }}
---
macro in loop
{% for i in xs %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}
---
macro in loop sees loop
{% for i in xs %}{% macro m() %}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}
---
macro in if
{% if t %}{% macro m() %}M{% endmacro %}{% endif %}{{ m() }}
---
macro attributes
{% macro m(a, b=1) %}{{ varargs }}{{ caller }}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}{{ m }}
---
macro as value
{% macro m(a) %}<{{ a }}>{% endmacro %}{% set k = {'f': m} %}{{ k.f(1) }}{% set g = m %}{{ g(2) }}
---
macro result is text
{% macro m() %} a {% endmacro %}[{{ m()|trim }}]{{ m() is string }}{{ m() + 'x' }}
---
macro with loop inside
{% macro list(items, sep=', ') %}{% for i in items %}{{ i }}{% if not loop.last %}{{ sep }}{% endif %}{% endfor %}{% endmacro %}{{ list(xs) }}{{ list(ys, sep='/') }}
---
macro redefined
{% macro m() %}1{% endmacro %}{{ m() }}{% macro m() %}2{% endmacro %}{{ m() }}
---
macro called before definition
{{ m() }}{% macro m() %}1{% endmacro %}
---
macro parameter named like context
{% macro m(x) %}{{ x }}{% endmacro %}{{ m('p') }}{{ x }}
---
macro kwargs set in body
{% macro m() %}{% set kwargs = 1 %}{{ kwargs }}{% endmacro %}{{ m() }}{{ m(a=1) }}
---
call
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body {{ s }}{% endcall %}
---
call with arguments
{% macro m(items) %}{% for i in items %}{{ caller(i, loop.index) }};{% endfor %}{% endmacro %}{% call(v, n) m(xs) %}{{ n }}={{ v }}{% endcall %}
---
call with default arguments
{% macro m() %}{{ caller() }}{{ caller(5) }}{% endmacro %}{% call(a=1) m() %}[{{ a }}]{% endcall %}
---
call without caller
{% macro m() %}x{% endmacro %}{% call m() %}body{% endcall %}
---
caller undefined
{% macro m() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ m() }}{% call m() %}B{% endcall %}
---
caller called without caller
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
---
call scope
{% set a = 1 %}{% macro m() %}{% set a = 2 %}{{ caller() }}{% endmacro %}{% call m() %}{{ a }}{% set a = 3 %}{{ a }}{% endcall %}{{ a }}
---
call in loop
{% macro m() %}({{ caller() }}){% endmacro %}{% for i in xs %}{% call m() %}{{ i }}{{ loop.index }}{% endcall %}{% endfor %}
---
call nested
{% macro a() %}a[{{ caller() }}]{% endmacro %}{% macro b() %}b[{{ caller() }}]{% endmacro %}{% call a() %}{% call b() %}x{% endcall %}{% endcall %}
---
call with macro arguments
{% macro m(title, cls='c') %}<{{ cls }}:{{ title }}>{{ caller() }}</>{% endmacro %}{% call m('T', cls='k') %}inner{% endcall %}
---
explicit caller parameter
{% macro m(caller=none) %}{{ caller() if caller else 'no' }}{% endmacro %}{{ m() }}{% call m() %}x{% endcall %}
---
call of method
{% call s.upper() %}x{% endcall %}
---
generation
{% generation %}text {{ s }}{% endgeneration %}|
---
generation scope
{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}
---
generation in loop
{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}{% endif %}{% endfor %}
---
block
a{% block b %}B{{ x }}{% endblock %}c
---
block with name at end
{% block b %}B{% endblock b %}
---
block does not see loop variable
{% for i in xs %}{% block b %}[{{ i }}]{% endblock %}{% endfor %}
---
block scoped
{% for i in xs %}{% block b scoped %}[{{ i }}{{ loop.index }}]{% endblock %}{% endfor %}
---
block sees top-level set
{% set v = 1 %}{% block b %}{{ v }}{% set v = 2 %}{{ v }}{% endblock %}{{ v }}
---
block through self
{% block b %}B{% endblock %}{{ self.b() }}{{ self.b()|upper }}
---
block unknown through self
{{ self.nope() }}
---
block required
{% block b required %}{% endblock %}
---
block in macro is not visible
{% macro m() %}{% block b %}X{% endblock %}{% endmacro %}{{ m() }}
---
block super
{% block b %}{{ super() }}{% endblock %}
---
print statement
{% print 1, 'a', x %}
---
autoescape on
{% autoescape true %}{{ html }}{{ html|safe }}{{ '<b>' }}{{ html ~ '<' }}{% endautoescape %}{{ html }}
---
autoescape off
{% autoescape false %}{{ html }}{% endautoescape %}
---
cycler
{% set c = cycler('a', 'b', 'c') %}{% for i in range(5) %}{{ c.next() }}{% endfor %}{{ c.current }}{{ c.reset() }}{{ c.current }}
---
joiner
{% set j = joiner() %}{% for i in xs %}{{ j() }}{{ i }}{% endfor %}{% set k = joiner('|') %}{{ k() }}a{{ k() }}b{{ k() }}
---
raw
{% raw %}{{ not }} {% parsed %} {# at all #}{% endraw %}
---
raw trims
a
{%- raw -%}
  b
{%- endraw -%}
  c
---
raw newline
{% raw %}
x
{% endraw %}
y
---
raw with plus
  {%+ raw %} x {% endraw +%}
y
---
comment
a{# comment {{ x }} {% if %} #}b
---
comment lines
a
{# comment #}
b
  {# indented #}
c {#- strip -#} d
---
comment plus
a
{#+ x +#}
b
---
comment signs
a {#- x #} b {# x -#} c {#-#} d {#+#} e
---
block newline is trimmed
{% if t %}
a
{% endif %}
b
---
block indentation is stripped
<
  {% if t %}
    a
  {% endif %}
>
---
lstrip only white space
  x {% if t %}
a
   {% endif %} y
---
plus keeps indentation
<
  {%+ if t %}a{%+ endif %}
>
---
plus keeps newline
{% if t +%}
a
{% endif +%}
b
---
minus strips all
a


{%- if t -%}


  b

{%- endif -%}

   c
---
minus in print
a   {{- 1 -}}   b {{ 2 -}} c {{- 3 }} d
---
variable is not stripped
   {{ 1 }}
   {{ 2 }}
---
data before tag on the same line
a  {% set v = 1 %}  b
---
tag after print on a line
{{ 1 }}  {% set v = 1 %}
x
---
tags on one line with blanks
  {% set v = 1 %}  {% set w = 2 %}
x
---
tag follows tag on next line
{% set v = 1 %}
  {% set w = 2 %}
    x
---
carriage returns
{% if t %}\r
---
newline at the end

---
two newlines at the end
x


---
unicode blanks
a  {%- if t -%}  b{% endif %}
---
tab indentation
(the template is below)
---
empty template

---
only text
just text with { braces } and % and #
---
braces in text
{ { } } {a} {%% }} %} #}
---
expression over lines
{{
  1
  +
  2
}}
---
minus without blanks
{{-1}}{{- -1}}{{+1}}
---
dict at end of expression
{{ {'a': {'b': 1}}}}
---
dict in call
{{ dict(a={'b': 1}) }}{% set v = {'x': {'y': 2}} %}{{ v.x.y }}
---
percent in expression
{{ 5 % 3 }}{{ 5%3 }}{% if 5 % 3 %}a{% endif %}
---
string with tag characters
{{ '}}' }}{{ '%}' }}{{ "{{ x }}" }}{% if '%}' == '%}' %}y{% endif %}
---
string over lines
{{ 'a
b' }}
---
string continued
{{ 'a\
b' }}
---
nested access
{{ messages[0]['role'] }}{{ messages[-1].content }}{{ messages[1:]|length }}
---
loop messages slice
{% for m in messages[1:] %}{{ m.role }}{% if not loop.last %},{% endif %}{% endfor %}
---
last message
{% if messages[-1]['role'] == 'assistant' %}last{% endif %}{% if messages|last is mapping %}map{% endif %}
---
raise in branch
{% for m in messages %}{% if m.role == 'assistant' and loop.index < 9 %}{{ raise_exception('bad role: ' + m.role) }}{% endif %}{% endfor %}
---
raise with number
{{ raise_exception(5) }}
---
deep expression
{{ ((((((((((1)))))))))) + (((((2))))) }}
---
long concatenation
{{ 'a' + 'b' + 'c' + 'd' + 'e' + 'f' + s + 'g' + x + 'h' }}
---
long concatenation with number
{{ 'a' + 'b' + 'c' + 1 }}
---
concatenation with markup in the middle
{{ '<' + 'a' + ('<b>'|safe) + '<' }}
---
concatenation undefined in the middle
{{ 'a' + 'b' + nope + 'c' }}
---
subtraction after concatenation
{{ 'a' + 'b' - 'c' }}
---
chained methods
{{ '  A b '.strip().lower().split(' ')[1].upper().center(5, '*') }}
---
filter arguments from context
{{ s|replace('t', d.a|string) }}{{ xs|join(s[0]) }}
---
filter with keyword and star
{{ 'a b'|replace(*['a', 'x']) }}{{ xs|join(**{'d': '-'}) }}
---
inline if without else in concat
{{ 'a' ~ ('b' if f) ~ 'c' }}
---
inline if without else used
{{ ('b' if f).x }}
---
inline if chain
{% for i in range(4) %}{{ 'zero' if i == 0 else 'one' if i == 1 else 'many' }} {% endfor %}
---
not in loop
{% for i in xs %}{% if i not in [1] and not loop.last %}{{ i }}{% endif %}{% endfor %}
---
undefined in list
{{ [nope, 1]|select('defined')|list }}{{ [nope]|length }}
---
undefined comparisons
{{ nope == nope2 }}{{ nope != none }}{{ nope is none }}{{ not nope }}{{ nope or 'd' }}{{ nope and 'd' }}
---
self is not a variable
{{ self is defined }}
---
varargs outside of macro
{{ varargs is defined }}{{ caller is defined }}{{ loop is defined }}
---
context variable named like a global
{{ d is defined }}{{ range is defined }}{{ dict is defined }}
---
dict with undefined key value
{{ {'a': nope}.a is defined }}
---
call result subscript
{{ dict(a=[1, 2])['a'][1] }}{{ 'a-b'.split('-')[0] }}
---
items over sorted
{% for k, v in d|dictsort(reverse=true) %}{{ k }}{% endfor %}
---
groupby loop
{% for g, items in [{'k': 1, 'v': 'a'}, {'k': 2, 'v': 'b'}, {'k': 1, 'v': 'c'}]|groupby('k') %}{{ g }}:{{ items|map(attribute='v')|join }};{% endfor %}{% for g in pairs|groupby(0) %}{{ g.grouper }}{{ g.list }}{{ g }}{% endfor %}
---
tojson in loop
{% for m in messages %}{{ m|tojson }}{% if not loop.last %}, {% endif %}{% endfor %}
---
whitespace only blocks
{% if t -%}   {%- endif %}|{% for i in xs %} {% endfor %}|
---
scope of if inside loop inside if
{% if t %}{% set a = 1 %}{% for i in xs %}{% if i %}{% set a = i %}{% endif %}{{ a }}{% endfor %}{{ a }}{% endif %}
---
three levels of scope
{% set a = 'A' %}{% for i in [1] %}{{ a }}{% set a = 'B' %}{% for j in [1] %}{{ a }}{% set a = 'C' %}{{ a }}{% endfor %}{{ a }}{% endfor %}{{ a }}
---
if inside loop sets name used later
{% for m in messages %}{% if m.role == 'system' %}{% set sys = m.content %}{% endif %}[{{ sys }}]{% endfor %}
---
elif sets name
{% if f %}{% elif t %}{% set v = 'e' %}{% endif %}{{ v }}
---
else sets name
{% if f %}{% else %}{% set v = 'e' %}{% endif %}{{ v }}{% macro m() %}{{ v }}{% endmacro %}{{ m() }}
---
loop target equals outer name
{% set i = 'o' %}{% for i in xs %}{{ i }}{% endfor %}{{ i }}
---
loop iterable equals target
{% for xs in xs %}{{ xs }}{% endfor %}{{ xs }}
---
same name in nested loops
{% for i in xs %}{% for i in ys %}{{ i }}{% endfor %}{{ i }}{% endfor %}
---
variable from else branch of loop
{% for i in e %}{% else %}{% set q = 1 %}{{ q }}{% endfor %}[{{ q }}]
---
set inside with inside loop
{% for i in xs %}{% with %}{% set x = i %}{{ x }}{% endwith %}{{ x }}{% endfor %}
---
macro argument default is evaluated each time
{% set ns = namespace(n=0) %}{% macro count() %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endmacro %}{% macro m(a=count()) %}{{ a }}{% endmacro %}{{ m() }}{{ m() }}{{ m('x') }}{{ m() }}
---
keyword python names
{% macro m(class, lambda=1) %}{{ class }}{{ lambda }}{% endmacro %}{{ m(class='c') }}{{ dict(**{'if': 1}) }}{% set def = 3 %}{{ def }}
---
dotted number access
{{ pairs.0.1 }}{{ xs.1 }}
---
filter on call with block
{% call(x) caller_test() %}{% endcall %}
---
many prints
{{ 1 }}{{ 2 }}{{ 'x' }}{{ none }}{{ true }}{{ 1.0 }}{{ [] }}
---
unclosed braces in data
{ {{ 1 }} } {{ '{' }}{
---
lazy filters look at nothing before they are drawn from
{% set a = none|map('nosuch') %}{% set b = 5|select('nosuch') %}{% set c = 5|batch('x') %}{% set d = 'x'|items %}{% set e = 5|unique %}{% set f = 5|slice(0) %}ok{{ 'y' if a and b and c and d and e and f }}
---
lazy selection from none
{% set found = none|selectattr('type', 'equalto', 'x') %}{{ found|list }}{{ found is iterable }}
---
lazy selection fails when drawn from
{% set found = 5|selectattr('type') %}a{{ found|list }}
---
lazy items fail when drawn from
{% set pairs = 'text'|items %}{% for k, v in pairs %}{{ k }}{% endfor %}
---
lazy map sees what was added later
{% set l = ['a'] %}{% set m = l|map('upper') %}{% set _ = l.append('b') %}{{ m|join }}
---
lazy batch of a width that is no number
{{ 'abc'|batch('x')|list }}{{ 'abc'|batch(2.5)|list }}
---
lazy batch to be filled up to no number
{{ 'abc'|batch('x', 'fill')|list }}
---
selection with a keyword argument
{{ [1, 2, 3, 4]|select('divisibleby', num=2)|list }}{{ [{'a': 3}, {'a': 4}]|rejectattr('a', 'divisibleby', num=2)|list }}
---
filter block to an integer
{% filter int %}5{% endfilter %}
---
filter block to a list
{% filter list %}ab{% endfilter %}
---
sort with a text for reverse
{{ [2, 1]|sort('n') }}
---
sort with an undefined for reverse
{{ [2, 1]|sort(reverse=nosuch) }}
---
dictsort with a text for reverse
{{ {'a': 1}|dictsort(reverse='x') }}
---
truncate leaves what is short
{{ [1, 2]|truncate }}{{ {}|truncate(3) }}{{ nosuch|truncate }}{{ range(4)|truncate(4) }}
---
truncate cuts no list
{{ [1, 2, 3, 4, 5, 6, 7, 8, 9]|truncate(3) }}
---
truncate of a number
{{ 5|truncate }}
---
truncate of an undefined checks its arguments
{{ nosuch|truncate(1) }}
---
int with a base that is none
{{ 'x'|int('fallback', 'b') }}{{ 7|int(0, none) }}{{ '12'|int(5, none) }}{{ '0x1f'|int(0, 16) }}
---
dict of an undefined
{{ dict(nosuch) }}
---
namespace of an undefined
{{ namespace(nosuch) }}
---
file size of less than nothing
{{ (-0.5)|filesizeformat }}{{ (-5)|filesizeformat }}
"""


def cases():
    for block in SOURCE.strip("\n").split("\n---\n"):
        name, _, template = block.partition("\n")
        if name == "carriage returns":
            template = "{% if t %}\r\na\r{% endif %}\r\nb\r"
        if name == "newline at the end":
            template = "x\n"
        if name == "tab indentation":
            template = "\t{% if t %}\n\tx\n\t{% endif %}"
        if name == "minus strips all":
            template = template.replace("a\n", "a   \n", 1)
        yield name, template, "all", CONTEXT
    yield "unicode line and names", "{% set größe = 1 %}{{ größe }}{% for ä in [1] %}{{ ä }}{% endfor %}", "empty", {}
    yield "nbsp is stripped", "a\u00a0{%- if true %}b{% endif -%}\u2003c", "empty", {}
    yield "context name with underscore", "{{ _x }}{{ __y }}", "underscores", {"_x": 1, "__y": 2}
    yield "context hides functions", "{{ range }}{{ namespace }}", "functions", {"range": "r", "namespace": "n"}
    yield "context values", "{{ a }}{{ b }}{{ c }}{{ d }}{{ e }}", "values", {
        "a": 1.0, "b": -0.0, "c": 1e16, "d": [None, True], "e": {"k": "it's"}}
