"""Single expressions, printed with {{ }}. Lines that begin with # are comments; blank lines are skipped."""

CONTEXT = {
    "s": "Hello World", "u": "Grüße, Ωμέγα 日本 🎉 ẞ ß ŉ ǆ", "e": "", "ws": "  \t padded text \n ", "ml": "line1\nline2\r\n\nline4\x0bv\x0cf\u2028u",
    "html": "<b>\"A\" & 'B'</b>", "csv": "a,b,,c", "num": 42, "neg": -7, "zero": 0, "f": 3.75, "nf": -2.5, "big": 9007199254740993,
    "t": True, "n": None, "xs": [3, 1, 2], "ys": ["b", "A", "c"], "mix": [1, "a", None, True, 2.5, [1, 2], {"k": "v"}],
    "d": {"b": 1, "a": {"x": [10, 20, {"y": "deep"}]}, "items": "shadowed", "_p": "under", "c c": 3},
    "users": [{"name": "Bob", "age": 30, "city": "Rome", "tags": ["x"]}, {"name": "alice", "age": 25, "city": "oslo", "tags": []},
              {"name": "Carol", "age": 30, "city": "Oslo", "admin": True}],
    "q": "it's \"q\" \\ \n\t\x01\x7f\u00a0é\u200b", "nest": [[1, [2, [3]]], []], "edict": {}, "elist": [],
}

SOURCE = r"""
# literals and printing
1
1_000
0x1F ~ 0b101 ~ 0o17
1.5
1e3
1.5e-7
1e16 ~ ' ' ~ 1e15 ~ ' ' ~ 123456789012345680.0
0.1 + 0.2
1/3
100.0
-0.0
1e22 ~ ' ' ~ 1e23
5e-324 ~ ' ' ~ 1.7976931348623157e308
0.0001 ~ ' ' ~ 0.00001
true ~ True ~ false ~ False ~ none ~ None
'a' "b" 'c'
'\n\t\x41\u00e9\U0001F600\101\\\'\"\a\q'
"\é"
[1, 'a', None, true, 2.5]
(1,)
()
(1, 2)
{'a': 1, 'b': [1, 2], 3: None, (1, 2): 'tuple'}
{}
[[], (), {}]
{'a': 1, 'a': 2}
{1: 'int', 1.0: 'float', true: 'bool'}
mix
d
q
[q]
[u]
users
n
num
undefined_name
[undefined_name]
# arithmetic
1 + 2 * 3
(1 + 2) * 3
7 / 2
6 / 2
7 // 2
-7 // 2
7 // -2
7.5 // 2
-7.5 // 2
7 % 3
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** 0.5
2 ** -1
2 ** 3 ** 2
-2 ** 2
0 ** 0
10 ** 18
-9223372036854775807 - 1
big + 1
big * 1.0
1 / 0
1.0 / 0
1 // 0
1 % 0
0 ** -1
true + true
true * 3
-true
+num
-num
- - num
not num
-s
+s
1 - 2 - 3
100 / 10 / 2
2 * 3 % 4
1 + 2.0
3 - 1.5
1.5 * 2
num + f
s + 1
1 + s
s + s
s - s
'a' * 3
3 * 'ab'
'a' * 0
'a' * -1
'a' * 2.0
[1] * 2
2 * [1, 2]
(1, 2) * 2
[1] + [2]
(1,) + (2, 3)
[1] + (2,)
[1] + 'a'
{} + {}
none + 1
1 ~ 2 ~ none ~ true ~ 1.5 ~ [1] ~ 'x'
1 ~ 2 + 3
1 + 2 ~ 3
undefined_name ~ 'x'
undefined_name + 'x'
'x' + undefined_name
undefined_name * 2
-undefined_name
'a' 'b' ~ 'c'
9223372036854775807 // -1
(-9223372036854775807 - 1) % -1
1e308 * 10
-1e308 * 10
(1e308 * 10) - (1e308 * 10)
# comparison and logic
1 < 2
1 < 2 < 3
1 < 3 < 2
1 == 1.0
1 == true
0 == false
'1' == 1
'a' < 'b'
'a' < 'B'
'é' > 'z'
'abc' < 'abcd'
[1, 2] < [1, 3]
[1, 2] == [1, 2]
[1, 2] == (1, 2)
(1, 'a') < (1, 'b')
[1, 'a'] < [1, 2]
{} == {}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
{'a': 1} < {'a': 2}
none == none
none == false
none < 1
1 < 'a'
big == 9007199254740992.0
big > 9007199254740992.0
big < 9007199254740994.0
1 != 2
s != 'x'
1 in [1, 2]
1.0 in [1, 2]
true in [1, 2]
'a' in 'abc'
'' in 'abc'
'' in ''
1 in 'abc'
'a' in ['a']
'b' in d
'z' in d
1 in 5
'a' in none
'x' in undefined_name
undefined_name in [1]
undefined_name == undefined_name
undefined_name == none
undefined_name < 1
1 < undefined_name
1 not in [1, 2]
not 1 in [1]
'a' not in 'abc'
1 in range(3)
1.0 in range(3)
5 in range(0, 10, 2)
'k' in {'k': 1}.keys()
1 in {'k': 1}.values()
('k', 1) in {'k': 1}.items()
[1] in [[1], [2]]
[1] in {}
1 and 2
0 and 2
0 or 'x'
'' or none or 'last'
1 or 2/0
not ''
not not 'a'
1 and 2 or 3
num if t else 'no'
'yes' if zero else 'no'
'x' if false
('x' if false) is defined
'a' if 0 else 'b' if 0 else 'c'
1 if 1 if 0 else 1
[1, 2] is defined and 1
num == 42 and s == 'Hello World' or false
# attributes, items, slices
d.b
d['b']
d.a.x[2].y
d['a']['x'][0]
d['items']
d.missing
d.missing.x
d['missing']
d['missing']['x']
d._p
d['_p']
d.__class__
d['__class__']
d.__class__.__mro__
s.__class__
''.__class__.__mro__
s._x
d['c c']
d.keys()
d.values()
d.items()
d.get('b')
d.get('zz')
d.get('zz', 'dflt')
d.get([1])
d.update({'x': 1})
d.pop('b')
d.clear
d.setdefault('b', 2)
d.copy()
d.fromkeys(['x', 'y'], 0)
d.nope()
xs.append(4)
xs.sort()
xs.pop
xs.index(1)
xs.index(9)
xs.count(1)
xs.copy()
xs.nope
(1, 2, 1).count(1)
(1, 2, 1).index(2)
xs[0]
xs[-1]
xs[3]
xs[-4]
xs[3].x
xs['a']
xs[1.0]
xs[true]
xs[none]
xs.0
nest.0.1.0
s[0]
s[-1]
s[99]
u[8]
u[-3]
u[2:6]
u[::-1]
u[-10:]
u[::3]
s[1:4]
s[:5]
s[6:]
s[-5:]
s[:-6]
s[::2]
s[::-1]
s[8:2:-2]
s[100:]
s[-100:3]
s[5:2]
s[:]
s[::0]
s['a':]
xs[1:]
xs[:-1]
xs[::-1]
xs[::2]
xs[:]
(1, 2, 3)[1:]
range(10)[2:8:2]
range(10)[::-1]
range(10)[3]
range(10)[-1]
range(3)[5]
d[1:]
none[0]
none['x']
none.x
5[0]
num.x
num.real ~ num.imag ~ num.numerator ~ num.denominator
f.real
num.bit_length()
f.is_integer()
true.x
{'a': 1}.a
{'a': 1}['a']
{1: 'x'}[1]
{1: 'x'}.1
{'x': 1}[[1]]
{(1, 2): 'x'}[(1, 2)]
{(1, 2): 'x'}[1, 2]
[1, 2, 3].1
'abc'['upper']()
'abc'['nope']
undefined_name.x
undefined_name['x']
undefined_name.x.y
undefined_name()
undefined_name[1:]
undefined_name.__class__
range(5)
range(1, 5)
range(0, 10, 3)
range(5).stop
range(5)|list
range(5, 0, -2)|list
range(0)|list
range(1000000)
range(1, 2, 0)
range('a')
range(1.5)
range()
range(5).count(2) ~ range(5).index(2)
dict(a=1, b=2)
dict([('a', 1), ('b', 2)])
dict({'a': 1}, b=2)
dict(1)
dict.fromkeys('ab', 1)
namespace(a=1).a
namespace(a=1, b='x')
namespace({'a': 1}, b=2)['b']
namespace(a=1).zz
namespace()._x
dict is callable
cycler('a', 'b').next()
cycler()
joiner('|')()
lipsum is defined
# calls on strings
s.upper()
s.lower()
s.swapcase()
s.title()
s.capitalize()
s.casefold()
u.upper()
u.lower()
u.title()
u.swapcase()
u.casefold()
u.capitalize()
'ΑΣ ΑΣΑ Σ aΣ. ΑΣ\u0301Α'.lower()
'ὈΔΥΣΣΕΎΣ'.lower() ~ ' ' ~ 'ὈΔΥΣΣΕΎΣ'.title() ~ ' ' ~ 'όσος'.upper()
'ﬁn ŉ ǰ ΐ'.upper()
"they're bill's friends".title()
'x1y2_z 3a'.title()
'İI ıi'.lower()
'ǅ ǆ'.swapcase()
ws.strip()
'[' ~ ws.lstrip() ~ ']'
'[' ~ ws.rstrip() ~ ']'
'xxhixx'.strip('x')
'xyhiyx'.strip('yx')
'\u3000a\u00a0'.strip()
'abc'.strip('')
'abc'.strip(none)
'abc'.strip(1)
'xxhi'.lstrip('x') ~ 'hixx'.rstrip('x')
s.split()
s.split('o')
s.split('o', 1)
s.split('zz')
s.split('')
csv.split(',')
csv.split(',', 2)
csv.split(',', maxsplit=1)
csv.split(sep=',')
ws.split()
'a b  c d'.split(none, 2)
'  a b '.split(none, 1)
''.split()
''.split(',')
csv.rsplit(',', 1)
csv.rsplit(',')
'a b c'.rsplit(none, 1)
'  a  b '.rsplit()
ml.splitlines()
ml.splitlines(true)
ml.splitlines(keepends=true)
''.splitlines()
'a\n'.splitlines()
csv.partition(',')
csv.partition('x')
csv.rpartition(',')
csv.rpartition('x')
csv.partition('')
s.replace('o', '0')
s.replace('o', '0', 1)
s.replace('', '-')
s.replace('', '-', 3)
s.replace('l', '')
s.replace('zz', 'y')
s.replace('o')
s.replace(1, 'a')
s.replace('o', '0', count=1)
'aaaa'.replace('aa', 'b')
s.startswith('Hello')
s.startswith('hello')
s.startswith(('x', 'He'))
s.startswith('World', 6)
s.startswith('')
s.startswith(1)
s.startswith(['H'])
s.endswith('World')
s.endswith(('x', 'd'))
s.endswith('Hello', 0, 5)
s.find('o')
s.find('o', 5)
s.find('o', 5, 6)
s.find('zz')
s.find('')
s.rfind('o')
s.rfind('o', 0, 5)
s.index('W')
s.index('zz')
s.rindex('o')
u.find('日')
u.rfind('ß')
s.count('o')
s.count('')
s.count('l', 3)
'aaaa'.count('aa')
','.join(['a', 'b'])
','.join('abc')
', '.join(['a', 1])
''.join([])
'-'.join(ys)
'-'.join({'a': 1, 'b': 2})
'-'.join(1)
s.isalpha() ~ 'abc'.isalpha() ~ ''.isalpha() ~ '日本'.isalpha()
'123'.isdigit() ~ '12a'.isdigit() ~ '²'.isdigit() ~ '٣'.isdigit() ~ ''.isdigit()
'123'.isdecimal() ~ '²'.isdecimal() ~ '½'.isnumeric() ~ '½'.isdigit()
'a1'.isalnum() ~ 'a_1'.isalnum()
'  '.isspace() ~ ''.isspace() ~ ' a'.isspace()
'abc'.islower() ~ 'Abc'.islower() ~ '1a'.islower() ~ '1'.islower()
'ABC'.isupper() ~ 'ABc'.isupper() ~ 'ǅ'.isupper()
'Hello World'.istitle() ~ 'Hello world'.istitle() ~ 'ǅa'.istitle()
'a_b1'.isidentifier() ~ '1a'.isidentifier() ~ 'é'.isidentifier()
'abc'.isascii() ~ 'é'.isascii() ~ ''.isascii()
'abc'.isprintable() ~ 'a\n'.isprintable()
'ab'.center(7) ~ '|'
'abc'.center(6, '*')
'ab'.ljust(5, '.') ~ 'ab'.rjust(5)
'ab'.ljust(5, '..')
'-42'.zfill(6) ~ '42'.zfill(5) ~ ''.zfill(2)
'a\tb\tc'.expandtabs() ~ 'ab\tc'.expandtabs(4) ~ 'a\tb'.expandtabs(0)
'prefix-x'.removeprefix('prefix-') ~ 'x.py'.removesuffix('.py') ~ 'abc'.removeprefix('z')
'abc'.translate({97: 'A', 98: none, 99: 100})
'abc'.translate(''.maketrans('ab', 'xy', 'c'))
'{} {}'.format(1, 'a')
'{0} {1} {0}'.format('a', 'b')
'{a} {b}'.format(a=1, b=2)
'{0.a} {1[0]} {2[k]}'.format({'a': 1}, [5], {'k': 'v'})
'{x[a][1]}'.format(x={'a': [1, 2]})
'{!r} {!s}'.format('a', 'a')
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:*^7}'.format('mid')
'{:05d} {:+d} {: d} {:x} {:#x} {:b} {:o} {:X}'.format(42, 42, 42, 255, 255, 5, 8, 255)
'{:,} {:_} {:,.2f}'.format(1234567, 1234567, 1234567.891)
'{:.2f} {:.0f} {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.25, 0.256)
'{:.3}'.format('abcdef')
'{:8.3f}|{:<8.3f}|{:08.3f}'.format(3.14159, 3.14159, -3.14159)
'{:10}|{:10}'.format('ab', 42)
'{:.3} {:.3} {:.1} {:.2}'.format(3.14159, 1234567.0, 25.0, 100.0)
'{} {} {}'.format(1.0, none, true)
'{:d}'.format('a')
'{:s}'.format(1)
'{:z}'.format(1)
'{:5}'.format([1])
'{:>{w}}|'.format('a', w=4)
'{} {1}'.format(1, 2)
'{1} {}'.format(1, 2)
'{}'.format()
'{a}'.format()
'{{}} {}'.format(1)
'{'.format()
'}'.format()
'{0.__class__}'.format('a')
'{:c}'.format(65)
'{:=+6}'.format(42)
'{:010,}'.format(1234)
'{:5}|{:<7}|'.format(true, false)
'{a}'.format_map({'a': 1})
'%s and %s' % ('a', 1)
'%s' % 'a'
'%s' % [1]
'%s' % (1,)
'%d' % 3.7
'%d' % 'a'
'%05d|%5d|%-5d|%+d|% d' % (42, 42, 42, 42, 42)
'%x %X %o %#x %#o' % (255, 255, 8, 255, 8)
'%.2f %5.1f %e %g %G' % (3.14159, 2.25, 12345.678, 0.00001, 1e20)
'%10s|%-10s|%.2s' % ('ab', 'cd', 'efgh')
'%c%c' % ('a', 98)
'%r %a' % ('é', 'é')
'%%'  % ()
'100%' % ()
'%s'  % ()
'%s %s' % 'a'
'%s' % ('a', 'b')
'%(a)s %(b)05.1f' % {'a': 'x', 'b': 2.5}
'%(zz)s' % {'a': 1}
'%(a)s' % 1
'%*d|%-*d|%.*f' % (5, 42, 5, 42, 1, 2.55)
'%q' % 1
'abc' % {}
'abc' % 1
'abc' % ()
'%d' % true
'%i %u' % (5, -5)
'%s' % undefined_name
'%s' % none
'%5.3d|%.0d' % (7, 0)
s.nope()
s.nope
# filters
-5|abs
(-5)|abs
nf|abs
'a'|abs
undefined_name|abs
d|attr('b')
namespace(a=1)|attr('a')
xs|batch(2)|list
range(7)|batch(3, 'x')|list
[]|batch(2)|list
s|capitalize
'éA'|capitalize
num|capitalize
'ab'|center(6) ~ '|'
'abc'|center(6) ~ '|'
'ab'|center|length
undefined_name|default('x')
undefined_name|default
''|default('x')
''|default('x', true)
''|default('x', boolean=true)
none|default('x')
none|d('x', true)
undefined_name.x|default('x')
d.zz|default(d.b)
d|dictsort
{'B': 1, 'a': 2, 'C': 0}|dictsort
{'B': 1, 'a': 2, 'C': 0}|dictsort(true)
{'B': 1, 'a': 2, 'C': 0}|dictsort(false, 'value')
{'B': 1, 'a': 2, 'C': 0}|dictsort(by='value', reverse=true)
{'B': 1}|dictsort(by='x')
{'a': 1, 2: 3}|dictsort
html|e
html|escape
html|escape|escape
html|forceescape
html|e|forceescape
('<a>'|safe) + '<b>'
'<b>' + ('<a>'|safe)
('<a>'|safe) ~ '<b>'
('<a>'|safe) * 2
'%s <'|safe % html
('{} <'|safe).format(html)
(', '|safe).join(['<', '>'])
('<a>'|safe).replace('a', '<')
('<A>'|safe)|lower
[('<a>'|safe)]
('<a>'|safe) is escaped
'<a>' is escaped
('<a>'|safe)|string is escaped
('<a>'|safe)|upper is escaped
('<a>'|safe)|trim is escaped
('<a>'|safe)[0:2] is escaped
('<a b>'|safe).split()
(html|e) == (html|e)
1|filesizeformat ~ ' ' ~ 0|filesizeformat ~ ' ' ~ 999|filesizeformat
1000|filesizeformat ~ ' ' ~ 1234567|filesizeformat ~ ' ' ~ 1e25|filesizeformat ~ ' ' ~ 1e30|filesizeformat
1024|filesizeformat(true) ~ ' ' ~ 1048576|filesizeformat(binary=true) ~ ' ' ~ '5000'|filesizeformat
'x'|filesizeformat
xs|first
''|first
[]|first
[]|first is defined
d|first
s|first
5|first
undefined_name|first
'3.5'|float ~ ' ' ~ 'x'|float ~ ' ' ~ 'x'|float(1.5) ~ ' ' ~ 3|float ~ ' ' ~ ' 1_0.5e1 '|float
'inf'|float ~ ' ' ~ '-Infinity'|float ~ ' ' ~ 'nan'|float ~ ' ' ~ none|float ~ ' ' ~ []|float
'1e5'|float ~ '.5'|float ~ '5.'|float ~ '.'|float ~ 'e5'|float ~ '1_'|float ~ '0x10'|float
undefined_name|float
'%s-%s'|format('a', 1)
'%(x)s'|format(x=1)
'%s %(x)s'|format('a', x=1)
'%s'|format
users|groupby('city')
users|groupby('city', case_sensitive=true)
users|groupby('age')|map('first')|list
users|groupby('admin', default=false)|map(attribute='grouper')|list
users|groupby('age')|map(attribute='list')|map('length')|list
users|groupby('nope')
'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2)
'a\nb\n\nc'|indent(2, true)
'a\nb\n\nc'|indent(width=2, blank=true)
'a\nb'|indent('>>')
'a\nb'|indent('> ', first=true)
'a\n'|indent ~ '|'
''|indent ~ '|'
''|indent(2, true) ~ '|'
5|indent
undefined_name|indent
'42'|int ~ ' ' ~ '42.9'|int ~ ' ' ~ 'x'|int ~ ' ' ~ 'x'|int(7) ~ ' ' ~ 3.9|int ~ ' ' ~ -3.9|int
'0x1F'|int(base=16) ~ ' ' ~ '1F'|int(0, 16) ~ ' ' ~ '101'|int(0, 2) ~ ' ' ~ '0b11'|int(0, 0) ~ ' ' ~ 'z'|int(0, 36)
' 12 '|int ~ ' ' ~ '1_000'|int ~ ' ' ~ '1__0'|int ~ ' ' ~ '-5'|int ~ ' ' ~ '+5'|int ~ ' ' ~ '- 5'|int ~ ' ' ~ ''|int
true|int ~ none|int ~ []|int ~ '٣٤'|int ~ '1e3'|int
undefined_name|int
('inf'|float)|int
('nan'|float)|int
'1e400'|int
'5'|int(base=99)
d|items|list
undefined_name|items|list
[1]|items|list
xs|join
xs|join(', ')
xs|join(d='-')
users|join(', ', attribute='name')
users|join(', ', 'age')
mix|join('|')
'abc'|join('-')
undefined_name|join(',')
5|join
[undefined_name, 1]|join(',')
[none, true]|join(none)
xs|last
s|last
[]|last is defined
d|last
(1, 2)|last
xs|map('string')|last
xs|reverse|last
undefined_name|last is defined
xs|length ~ s|length ~ u|length ~ d|length ~ ''|length ~ undefined_name|length ~ range(5)|length ~ d.keys()|length
xs|count
5|length
none|length
xs|map('string')|length
'abc'|list
d|list
(1, 2)|list
5|list
undefined_name|list
s|lower ~ num|lower ~ none|lower
users|map(attribute='name')|list
users|map(attribute='nope')|list
users|map(attribute='nope', default='x')|list
users|map(attribute='tags.0')|list
users|map(attribute='tags.0', default='-')|join(',')
users|map(attribute='a.b')|list
ys|map('upper')|list
ys|map('replace', 'b', 'z')|list
xs|map('string')|map('upper')|join
['1', '2']|map('int')|sum
users|map('attr', 'name')|list
users|map()|list
[]|map()|list
users|map(foo='bar')|list
users|map('nofilter')|list
users|map(attribute='name', foo=1)|list
[[1, 2], [3]]|map('join', '-')|list
[[1, 2], [3]]|map('sum')|list
['a', 'b']|map('default', 'x')|list
xs|max ~ xs|min
ys|max ~ ys|min
ys|max(true) ~ ys|min(case_sensitive=true)
users|max(attribute='age')
users|min(attribute='name')
[]|max is defined
[1, 'a']|max
'hello'|max
users|pprint
d|pprint
[]|pprint ~ 'a'|pprint ~ num|pprint
('word ' * 30)|pprint
{'k': 'word ' * 20, 'list': range(40)|list, 'n': {'z': 1, 'a': 'x' * 60}}|pprint
['a' * 50, 'b' * 50, ('c' * 90,)]|pprint
('line one\nline two is here\n' * 5)|pprint
xs|reject('odd')|list
mix|reject('string')|list
mix|reject|list
[0, 1, '', 'a', none]|select|list
xs|select('gt', 1)|list
xs|select('>', 1)|list
xs|select('in', [1, 2])|list
xs|select('divisibleby', 2)|list
xs|select('notest')|list
mix|select('string')|list
users|selectattr('admin')|map(attribute='name')|list
users|selectattr('admin', 'defined')|map(attribute='name')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|selectattr('age', 'eq', 30)|map(attribute='name')|list
users|selectattr('age', '==', 30)|map(attribute='name')|list
users|rejectattr('age', 'lt', 30)|map(attribute='name')|list
users|rejectattr('admin')|map(attribute='name')|list
users|selectattr('tags', 'sequence')|map(attribute='name')|list
users|selectattr('city', 'in', ['Rome', 'Oslo'])|map(attribute='name')|list
users|selectattr()|list
users|selectattr('a.b.c')|list
users|selectattr('name', 'notest')|list
(users|selectattr('age', 'eq', 99)) is defined
'truthy' if users|selectattr('age', 'eq', 99) else 'falsy'
'truthy' if users|selectattr('age', 'eq', 99)|list else 'falsy'
users|selectattr('age', 'eq', 99)|first is defined
users|selectattr('age', 'eq', 99)|first|default('none')
s|replace('o', '0') ~ s|replace('o', '0', 1) ~ 123|replace(2, 'x')
s|replace('o')
undefined_name|replace('a', 'b')
s|reverse
u|reverse
xs|reverse|list
d|reverse|list
d.items()|reverse|list
range(3)|reverse|list
(1, 2)|reverse|list
xs|map('string')|reverse|list
5|reverse
3.7|round ~ ' ' ~ 2.5|round ~ ' ' ~ 3.5|round ~ ' ' ~ 2.675|round(2) ~ ' ' ~ 42|round ~ ' ' ~ -0.4|round
1234.567|round(-2) ~ ' ' ~ 1250|round(-2) ~ ' ' ~ 1350|round(-2) ~ ' ' ~ 55|round(-1) ~ ' ' ~ 1234|round(2)
3.2|round(method='ceil') ~ ' ' ~ 3.7|round(0, 'floor') ~ ' ' ~ 3.14159|round(2, 'ceil') ~ ' ' ~ 7|round(0, 'ceil') ~ ' ' ~ 1234|round(-2, 'floor')
3.7|round|int
3.7|round(method='x')
'a'|round
0.5|round ~ 1.5|round ~ 1e20|round ~ 0.05|round(1) ~ 1e-7|round(7)
html|safe
5|safe
range(7)|slice(3)|list
range(7)|slice(3, 'x')|list
range(2)|slice(4)|list
range(2)|slice(0)|list
xs|sort
xs|sort(true)
xs|sort(reverse=true)
ys|sort
ys|sort(case_sensitive=true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
users|sort(attribute='age', reverse=true)|map(attribute='name')|list
users|sort(attribute='name')|map(attribute='name')|list
[1, 'a']|sort
[{}, {}]|sort
[{'a': 1}, {'a': 2}]|sort
[[2, 1], [1, 2]]|sort
'hello'|sort|join
d|sort
[]|sort
undefined_name|sort
['b', 'B', 'a', 'A']|sort
num|string ~ none|string ~ [1]|string
'<p>Hello <!-- c --><b>World</b>\n\n x &amp; y &lt;z&gt; &#65;&#x42;</p>'|striptags
'a < b > c'|striptags
'a <!-- x'|striptags
'<!<!-- a -->-- b --> c'|striptags
'<!-->x-->y'|striptags
xs|sum ~ ' ' ~ [1.5, 2]|sum ~ ' ' ~ []|sum ~ ' ' ~ xs|sum(start=10)
users|sum(attribute='age')
users|sum('age', 5)
[[1], [2]]|sum(start=[])
['a']|sum
['a']|sum(start='')
s|title
"they're bill's (friends) {a} [b] <c> d-e_f"|title
'HELLO wORLD'|title
'éa ßb'|title
num|title
ws|trim
'xxhixx'|trim('x')
num|trim
none|trim
undefined_name|trim
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true)
'foo bar baz qux'|truncate(11)
'foo bar baz qux'|truncate(11, false, '...', 0)
'foo bar baz qux'|truncate(3, leeway=0)
'foo bar baz qux'|truncate(2)
'foobarbazquxlong'|truncate(8, end='…', leeway=0)
u|truncate(8, true, '', 0)
5|truncate(2)
undefined_name|truncate
[1, 2, 1, 3, 2]|unique|list
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
users|unique(attribute='age')|map(attribute='name')|list
[1, 1.0, true, '1']|unique|list
[[1], [1]]|unique|list
s|upper ~ u|upper ~ none|upper
'a b&c=d/e?ü~_.-'|urlencode
{'a b': 'c&d', 'x': 1}|urlencode
[('a', 1), ('b c', 'ü/')]|urlencode
5|urlencode
[1]|urlencode
s|wordcount ~ u|wordcount ~ ''|wordcount ~ "it's a-b c_d 1.5"|wordcount
'The quick brown fox jumps over the lazy dog'|wordwrap(10)
'averyveryverylongword and short'|wordwrap(8)
'averyveryverylongword and short'|wordwrap(8, false)
'first line\n\nsecond line is longer'|wordwrap(12)
'well-known self-explanatory hyphen-ated'|wordwrap(10)
'well-known self-explanatory hyphen-ated'|wordwrap(10, break_on_hyphens=false)
'a -- b --- c--d e'|wordwrap(5)
'long-hyphenated-word-that-is-long'|wordwrap(7)
'  leading   spaces  kept '|wordwrap(6) ~ '|'
'x y z'|wordwrap(3, wrapstring='<br>')
'tab\there and\tthere'|wordwrap(6)
'abc'|wordwrap(0)
''|wordwrap
'----------- ab--------cd'|wordwrap(4)
{'class': 'a b', 'id': none, 'x': undefined_name, 'n': 5, 'q': '"'}|xmlattr
{'a': 1}|xmlattr(false)
{}|xmlattr
{'a b': 1}|xmlattr
# tojson
mix|tojson
d|tojson
users|tojson
u|tojson
u|tojson(ensure_ascii=true)
u|tojson(true)
q|tojson
q|tojson(ensure_ascii=true)
html|tojson
1.0|tojson ~ 1e100|tojson ~ 0.1|tojson ~ -0.0|tojson ~ 5|tojson ~ true|tojson ~ none|tojson ~ (1, 2)|tojson
d|tojson(indent=2)
d|tojson(indent=4)
{}|tojson(indent=2) ~ []|tojson(indent=2) ~ {'a': {}, 'b': []}|tojson(indent=2)
[1, [2, [3, {'a': 1}]]]|tojson(indent=1)
xs|tojson(indent=0)
xs|tojson(indent='--')
d|tojson(separators=(',', ':'))
d|tojson(indent=2, separators=(',', ': '))
d|tojson(sort_keys=true)
{'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true, indent=2)
{'b': 1, 2: 3}|tojson(sort_keys=true)
{1: 'a', 1.5: 'b', true: 'c', none: 'd'}|tojson
{(1, 2): 'a'}|tojson
undefined_name|tojson
[undefined_name]|tojson
range(3)|tojson
d.keys()|tojson
namespace(a=1)|tojson
'inf'|float|tojson
['nan'|float, '-inf'|float]|tojson
('<a>'|safe)|tojson
''|tojson
xs|tojson|length
d|tojson|tojson
d|tojson(separators=',')
# tests
num is defined ~ undefined_name is defined ~ undefined_name is undefined
n is none ~ num is none ~ undefined_name is none
t is boolean ~ 1 is boolean ~ t is true ~ 1 is true ~ t is false ~ 0 is false
1 is integer ~ t is integer ~ 1.0 is integer ~ 1.0 is float ~ 1 is float
1 is number ~ 1.5 is number ~ t is number ~ 's' is number ~ none is number
s is string ~ 1 is string ~ ('a'|safe) is string
d is mapping ~ xs is mapping ~ namespace() is mapping ~ undefined_name is mapping
xs is sequence ~ s is sequence ~ d is sequence ~ (1,) is sequence ~ 1 is sequence ~ range(3) is sequence ~ d.keys() is sequence
xs is iterable ~ s is iterable ~ d is iterable ~ 1 is iterable ~ none is iterable ~ d.keys() is iterable ~ undefined_name is iterable
xs|map('string') is iterable ~ (xs|map('string')) is sequence
range is callable ~ s.upper is callable ~ s is callable ~ undefined_name is callable ~ namespace() is callable
3 is odd ~ 4 is even ~ -3 is odd ~ 3.0 is odd
9 is divisibleby 3 ~ 9 is divisibleby(2)
9 is divisibleby 0
's' is odd
'abc' is lower ~ 'ABC' is upper ~ 'aBc' is lower ~ 1 is lower
1 is eq 1 ~ 1 is equalto 2 ~ 1 is ne 2 ~ 2 is gt 1 ~ 2 is greaterthan 3 ~ 2 is ge 2 ~ 1 is lt 2 ~ 1 is lessthan 0 ~ 1 is le 1
1 is in [1, 2] ~ 'a' is in 'abc' ~ 3 is in [1]
1 is not in [1, 2]
n is sameas none ~ t is sameas true ~ 1 is sameas true ~ 5 is sameas 5 ~ xs is sameas xs ~ [1] is sameas [1]
'upper' is filter ~ 'nope' is filter ~ 'odd' is test ~ 'nope' is test
num is not none
num is not defined
not num is defined
num is defined and num > 5
num is number is string
1 is lt 'a'
xs is defined is true
num is divisibleby 2 and true
num is divisibleby(2) or false
1 is sameas(1)
x.y is defined
d.x is defined ~ d.b is defined ~ d['a']['x'] is defined
# precedence
1 + 2|abs
-1|abs
(1, 2)|length
'a' ~ 'b'|upper
not true|string
not 'a' == 'b'
1 == 1 and 2 == 2
1 in [1] == true
2 * 3 ** 2
'%s' % 'a'|upper
s.split()|first|upper
[1, 2, 3]|sum * 2
1 < 2 == true
1 if 0 else 2 ~ 3
d.b + 1|float
xs|first + xs|last
'a' in 'abc' and 'x' not in 'abc'
true and not false
xs[0:2]|join(',')|length
{'a': [1, {'b': 2}]}.a[1].b
[1, 2][0]
'abc'[1]
(1, 2)[1]
range(3)|map('string')|join
# time
strftime_now('%Y-%m-%d')
strftime_now('%d %B %Y') ~ strftime_now(' %d %b %Y')
strftime_now('%A %a %B %b %c %x %X %j %U %W %V %G %u %w %y %C %e %k %l %I %M %S %p %H %D %F %T %R %r %h %n %t %% %s %P')
strftime_now('%-d/%-m/%y %_d')
strftime_now('100%')
strftime_now('')
strftime_now('é %Y')
strftime_now(5)
strftime_now()
# calls and errors
raise_exception('custom message')
raise_exception()
num()
'a'()
s.upper(1)
s.split(1)
s.split(',', 'a')
nosuch()
xs|nosuchfilter
xs is nosuchtest
'x' if xs is nosuchtest else 'y'
'x' if true else xs|nosuchfilter
xs|first(1, 2)
xs|join(', ', 'a', 'b')
xs|join(zz=1)
xs|sort(reverse=true, reverse=false)
dict(a=1, a=2)
range(*[1, 5])|list
dict(**{'a': 1, 'b': 2})
dict(a=1, **{'a': 2})
'{} {x}'.format(*[1], **{'x': 2})
range(1, *[3])|list
range(**{'a': 1})
range(*5)
dict(**5)
"""

MALFORMED = r"""
{{
{{ }}
{{ 1 + }}
{{ 1 2 }}
{{ (1 }}
{{ 1) }}
{{ [1, 2 }}
{{ {'a' 1} }}
{{ 'abc }}
{{ a. }}
{{ a.'b' }}
{{ a | }}
{{ a is }}
{{ a is is b }}
{{ not }}
{{ a if }}
{{ a if b else }}
{{ ! }}
{{ a ! b }}
{{ @ }}
{{ a; b }}
{{ f(a=1, 2) }}
{{ f(*a, *b) }}
{{ f(**a, b) }}
{{ f(a b) }}
{{ x[1:2:3:4] }}
{{ x[1:2, 3] }}
{{ x[1,] }}
{{ '\x4' }}
{{ '\u12' }}
{{ '\U99999999' }}
{{ 08 }}
{{ 1__0 }}
{{ 1e }}
{{ é }}
{{ a² }}
{{ loop = 1 }}
{% %}
{% 5 %}
{% nosuchtag %}
{% if %}
{% if a %}
{% if a %}{% else %}{% else %}{% endif %}
{% endif %}
{% for %}
{% for x %}
{% for x in %}
{% for x in y %}
{% for 1 in y %}{% endfor %}
{% for x.y in z %}{% endfor %}
{% for loop in z %}{% endfor %}
{% for x in y %}{% set loop = 1 %}{% endfor %}
{% for x in y %}{% endif %}
{% set %}
{% set x %}
{% set 1 = 2 %}
{% set x = %}
{% set true = 1 %}
{% set a.b.c = 1 %}
{% set a[0] = 1 %}
{% set (a, 1) = 2 %}
{% macro %}{% endmacro %}
{% macro m %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a, a) %}{% endmacro %}
{% macro m(1) %}{% endmacro %}
{% macro none() %}{% endmacro %}
{% macro m() %}
{% call %}{% endcall %}
{% call x %}{% endcall %}
{% filter %}{% endfilter %}
{% filter nosuch %}{% endfilter %}
{% with a %}{% endwith %}
{% with a = %}{% endwith %}
{% break %}
{% continue %}
{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for x in y %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% block %}{% endblock %}
{% block a %}{% endblock %}{% block a %}{% endblock %}
{% include 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% extends 'x' %}
{% do x %}
{% debug %}
{% trans %}x{% endtrans %}
{% raw %}
{# comment
{% if a %}{% for x in y %}{% endif %}{% endfor %}
{% generation %}
{% macro m(caller) %}{{ caller() }}{% endmacro %}
{% elif %}
{{ a|f(1 }}
{% set x | nosuch %}{% endset %}
{{ ')' ( }}
{{ {'a': 1, } }}
{{ [1, 2, ] }}
{{ (1, 2, ) }}
{{ f(1, ) is defined }}
{{ {1} }}
{{ [1 2] }}
{{ a.1b }}
{{ 1.2.3 }}
{{ "a" "b" 'c' ~ }}
"""


def lines(text):
    return [line for line in text.strip().split("\n") if line.strip() and not line.startswith("# ")]


def cases():
    for line in lines(SOURCE):
        yield line, "{{ " + line + " }}", "all", CONTEXT
    for i, line in enumerate(lines(MALFORMED)):
        yield f"malformed {i}", line, "few", {"y": [1, 2], "a": 1, "b": 2, "x": [1, 2, 3]}
