"""URI templates: the tables of RFC 6570, and matching."""

import sys

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.protocol import UriTemplate

# The variables and expansions of RFC 6570, section 3.2 (facts).
VALUES = {
    "count": ["one", "two", "three"],
    "dom": ["example", "com"],
    "dub": "me/too",
    "hello": "Hello World!",
    "half": "50%",
    "var": "value",
    "who": "fred",
    "base": "http://example.com/home/",
    "path": "/foo/bar",
    "list": ["red", "green", "blue"],
    "keys": {"semi": ";", "dot": ".", "comma": ","},
    "v": "6",
    "x": "1024",
    "y": "768",
    "empty": "",
    "empty_keys": {},
    "undef": None,
}
TABLE = """
{count} one,two,three
{count*} one,two,three
{/count} /one,two,three
{/count*} /one/two/three
{;count} ;count=one,two,three
{;count*} ;count=one;count=two;count=three
{?count} ?count=one,two,three
{?count*} ?count=one&count=two&count=three
{&count*} &count=one&count=two&count=three
{var} value
{hello} Hello%20World%21
{half} 50%25
O{empty}X OX
O{undef}X OX
{x,y} 1024,768
{x,hello,y} 1024,Hello%20World%21,768
?{x,empty} ?1024,
?{x,undef} ?1024
?{undef,y} ?768
{var:3} val
{var:30} value
{list} red,green,blue
{list*} red,green,blue
{keys} semi,%3B,dot,.,comma,%2C
{keys*} semi=%3B,dot=.,comma=%2C
{+var} value
{+hello} Hello%20World!
{+half} 50%25
{base}index http%3A%2F%2Fexample.com%2Fhome%2Findex
{+base}index http://example.com/home/index
O{+empty}X OX
O{+undef}X OX
{+path}/here /foo/bar/here
here?ref={+path} here?ref=/foo/bar
up{+path}{var}/here up/foo/barvalue/here
{+x,hello,y} 1024,Hello%20World!,768
{+path,x}/here /foo/bar,1024/here
{+path:6}/here /foo/b/here
{+list} red,green,blue
{+list*} red,green,blue
{+keys} semi,;,dot,.,comma,,
{+keys*} semi=;,dot=.,comma=,
{#var} #value
{#hello} #Hello%20World!
{#half} #50%25
foo{#empty} foo#
foo{#undef} foo
{#x,hello,y} #1024,Hello%20World!,768
{#path,x}/here #/foo/bar,1024/here
{#path:6}/here #/foo/b/here
{#list} #red,green,blue
{#list*} #red,green,blue
{#keys} #semi,;,dot,.,comma,,
{#keys*} #semi=;,dot=.,comma=,
{.who} .fred
{.who,who} .fred.fred
{.half,who} .50%25.fred
www{.dom*} www.example.com
X{.var} X.value
X{.empty} X.
X{.undef} X
X{.var:3} X.val
X{.list} X.red,green,blue
X{.list*} X.red.green.blue
X{.keys} X.semi,%3B,dot,.,comma,%2C
X{.keys*} X.semi=%3B.dot=..comma=%2C
X{.empty_keys} X
X{.empty_keys*} X
{/who} /fred
{/who,who} /fred/fred
{/half,who} /50%25/fred
{/who,dub} /fred/me%2Ftoo
{/var} /value
{/var,empty} /value/
{/var,undef} /value
{/var,x}/here /value/1024/here
{/var:1,var} /v/value
{/list} /red,green,blue
{/list*} /red/green/blue
{/list*,path:4} /red/green/blue/%2Ffoo
{/keys} /semi,%3B,dot,.,comma,%2C
{/keys*} /semi=%3B/dot=./comma=%2C
{;who} ;who=fred
{;half} ;half=50%25
{;empty} ;empty
{;v,empty,who} ;v=6;empty;who=fred
{;v,bar,who} ;v=6;who=fred
{;x,y} ;x=1024;y=768
{;x,y,empty} ;x=1024;y=768;empty
{;x,y,undef} ;x=1024;y=768
{;hello:5} ;hello=Hello
{;list} ;list=red,green,blue
{;list*} ;list=red;list=green;list=blue
{;keys} ;keys=semi,%3B,dot,.,comma,%2C
{;keys*} ;semi=%3B;dot=.;comma=%2C
{?who} ?who=fred
{?half} ?half=50%25
{?x,y} ?x=1024&y=768
{?x,y,empty} ?x=1024&y=768&empty=
{?x,y,undef} ?x=1024&y=768
{?var:3} ?var=val
{?list} ?list=red,green,blue
{?list*} ?list=red&list=green&list=blue
{?keys} ?keys=semi,%3B,dot,.,comma,%2C
{?keys*} ?semi=%3B&dot=.&comma=%2C
{&who} &who=fred
{&half} &half=50%25
?fixed=yes{&x} ?fixed=yes&x=1024
{&x,y,empty} &x=1024&y=768&empty=
{&x,y,undef} &x=1024&y=768
{&var:3} &var=val
{&list} &list=red,green,blue
{&list*} &list=red&list=green&list=blue
{&keys} &keys=semi,%3B,dot,.,comma,%2C
{&keys*} &semi=%3B&dot=.&comma=%2C
"""


class Expansion(SynchronousTestCase):
    def test_the_tables_of_the_rfc(self):
        rows = [line.rsplit(" ", 1) for line in TABLE.strip().splitlines()]
        self.assertEqual(len(rows), TABLE.count("\n") - 1)
        for template, expected in rows:
            self.assertEqual(UriTemplate(template).expand(VALUES), expected, template)

    def test_numbers_and_booleans(self):
        self.assertEqual(
            UriTemplate("{a,b,c,d}").expand({"a": 1, "b": -2.5, "c": True, "d": False}), "1,-2.5,true,false"
        )

    def test_empty_lists_are_undefined(self):
        self.assertEqual(UriTemplate("x{?a,b}").expand({"a": [], "b": ()}), "x")

    def test_characters_beyond_ascii(self):
        self.assertEqual(UriTemplate("é{a}{+a}").expand({"a": "世"}), "%C3%A9%E4%B8%96%E4%B8%96")
        self.assertEqual(UriTemplate("{a:1}").expand({"a": "世界"}), "%E4%B8%96")

    def test_triplets_pass_reserved_expansion_whole(self):
        self.assertEqual(UriTemplate("{+a}").expand({"a": "a%20b%2"}), "a%20b%252")
        self.assertEqual(UriTemplate("{+a:2}").expand({"a": "a%20b"}), "a%20")

    def test_no_prefix_of_lists(self):
        for value in (["a"], {"a": "b"}):
            self.assertRaises(ValueError, UriTemplate("{a:3}").expand, {"a": value})

    def test_names(self):
        self.assertEqual(UriTemplate("{b}/{a,b}{?c.d,e%20f}").names, ("b", "a", "c.d", "e%20f"))
        self.assertEqual(repr(UriTemplate("x{a}")), "UriTemplate('x{a}')")

    def test_no_templates(self):
        for template, word in (
            ("a{b", "position 1"),
            ("a}b", "position 1"),
            ("{a{b}}", "position 0"),
            ("{}", "position 0"),
            ("x{+}", "position 1"),
            ("{a,}", "no variable"),
            ("{a b}", "no variable"),
            ("{a-b}", "no variable"),
            ("{.a.}", "no variable"),
            ("{a:0}", "no variable"),
            ("{a:10000}", "no variable"),
            ("{a*:3}", "no variable"),
            ("{=a}", "reserved"),
            ("{|a}", "reserved"),
            ("a b", "position 1"),
            ("a%2", "position 1"),
            ('a"b', "position 1"),
            ("a\nb", "position 1"),
            ("x" * 5000, "4096"),
            ("".join(f"{{v{number}}}/" for number in range(65)), "64"),
        ):
            self.assertIn(word, str(self.assertRaises(ValueError, UriTemplate, template)), template)


class Matching(SynchronousTestCase):
    def check(self, template, uri, expected):
        self.assertEqual(UriTemplate(template).match(uri), expected, (template, uri))

    def test_literals(self):
        self.check("a://b", "a://b", {})
        self.check("a://b", "a://bc", None)
        self.check("a://b", "a://", None)
        self.check("", "", {})
        self.check("café", "caf%C3%A9", {})
        self.check("café", "café", {})

    def test_simple_variables(self):
        self.check("users://{id}/profile", "users://42/profile", {"id": "42"})
        self.check("users://{id}/profile", "users:///profile", None)
        self.check("users://{id}/profile", "users://42/profiles", None)
        self.check("users://{id}/profile", "xusers://42/profile", None)
        self.check("users://{id}", "users://42", {"id": "42"})
        self.check("{a}", "x", {"a": "x"})
        self.check("{a}", "", None)
        self.check("{a}x", "ax", {"a": "a"})
        self.check("{a}x", "x", None)
        self.check("{x,y}", "1,2", {"x": "1", "y": "2"})
        self.check("{x,y}", "1,2,3", None)
        self.check("{x,y}", "12", None)
        self.check("t://{a}-{b}.{c}", "t://1-2-3.4.5", {"a": "1", "b": "2-3", "c": "4.5"})
        self.check("{a}/{b}x", "1/2y", None)

    def test_a_simple_variable_never_has_a_slash(self):
        for uri in ("t://a/b", "t://a%2Fb", "t://a%2fb", "t://a?b", "t://a#b"):
            self.check("t://{id}", uri, None)
        self.check("t://{id}", "t://a%3Fb", {"id": "a?b"})

    def test_dots_do_not_climb(self):
        for uri in ("t://..", "t://%2e%2e", "t://..%5Cx", "t://x%5c..", "t://a%00"):
            self.check("t://{id}", uri, None)
        for uri in ("t:///../x", "t:///a/../b", "t:///a/%2e./b", "t:///a/..", "t:///..", "t:///a%00"):
            self.check("t:///{+path}", uri, None)
            self.check("t://{/path*}", uri, None)
        self.check("t://{id}", "t://..a", {"id": "..a"})
        self.check("t:///{+path}", "t:///a../.b/c..d", {"path": "a../.b/c..d"})

    def test_values_are_decoded(self):
        self.check("t://{id}", "t://a%20b%E4%B8%96", {"id": "a b世"})
        self.check("t://{id}", "t://世", {"id": "世"})
        for uri in ("t://%", "t://%zz", "t://%ff", "t://a%4", "t://\ud800"):
            self.check("t://{id}", uri, None)

    def test_reserved(self):
        self.check("f:///{+path}", "f:///a/b/c.txt", {"path": "a/b/c.txt"})
        self.check("f:///{+path}", "f:///", None)
        self.check("f:///{+path}.md", "f:///a/b.md.md", {"path": "a/b.md"})
        self.check("f:///{+path}.md", "f:///a/b.txt", None)
        self.check(
            "{+base}/raw/{name}.{kind}", "x/raw/y/raw/a.b.c", {"base": "x/raw/y", "name": "a.b", "kind": "c"}
        )
        self.check("{+base}/raw/{name}", "x/raw/", None)
        self.check("{+base}-{name}", "x", None)
        self.check("{a}/{+rest}", "1/2/3", {"a": "1", "rest": "2/3"})
        self.check("{a}x{+rest}", "1/x2", None)
        self.check("{a}/{+rest}/{a}", "1/2/1", {"a": "1", "rest": "2"})
        self.check("{a}/{+rest}/{a}", "1/2/3", None)
        self.check("{+rest}x", "y", None)

    def test_labels_and_segments(self):
        self.check("x{.a}", "x.y", {"a": "y"})
        self.check("x{.a,b}", "x.y.z", {"a": "y", "b": "z"})
        self.check("x{/a,b}", "x/y/z", {"a": "y", "b": "z"})
        self.check("x{/a,b}", "x/y", None)
        self.check("x{/a*}", "x/y/z%20", {"a": ["y", "z "]})
        self.check("x{/a*}/end", "x/y/z/end", {"a": ["y", "z"]})
        for uri in ("x", "x/", "x//y", "x/y/", "x/y%2Fz"):
            self.check("x{/a*}", uri, None)

    def test_path_parameters(self):
        self.check("x{;a,b}", "x;a=1;b=2", {"a": "1", "b": "2"})
        self.check("x{;a,b}", "x;a=1", None)
        self.check("x{;a}", "x;a=1;b=2", None)

    def test_queries(self):
        self.check("x{?a,b}", "x?a=1&b=2", {"a": "1", "b": "2"})
        self.check("x{?a,b}", "x?b=2&a=1", {"a": "1", "b": "2"})
        self.check("x{?a,b}", "x?b=", {"b": ""})
        self.check("x{?a,b}", "x?b", {"b": ""})
        self.check("x{?a,b}", "x", {})
        self.check("x{?a,b}", "x?a=b/../c&b=%2F", {"a": "b/../c", "b": "/"})
        for uri in ("x?", "x?c=1", "x?a=1&a=2", "x?a=1&b=2&", "x?a=1&b=2&c=3", "y?a=1", "x?a=%ff", "x&a=1"):
            self.check("x{?a,b}", uri, None)
        self.check("x?fixed=1{&a}", "x?fixed=1&a=2", {"a": "2"})
        self.check("x?fixed=1{&a}", "x?fixed=1", {})
        self.check("x?fixed=1&more=2{&a}", "x?fixed=1&more=2&a=3", {"a": "3"})
        self.check("x?fixed=1{&a}", "x?fixed=2&a=2", None)
        self.check("x{?a}{&b}", "x?b=1&a=2", {"a": "2", "b": "1"})
        self.check("{id}{?a}", "7?a=2", {"id": "7", "a": "2"})
        self.check("{+path}{?a}", "7/8?a=2", {"path": "7/8", "a": "2"})
        self.check("{a}{?a}", "7?a=7", {"a": "7"})
        self.check("{a}{?a}", "7?a=8", None)

    def test_fragments(self):
        self.check("x{#a}", "x#y/../z", {"a": "y/../z"})
        self.check("x{#a}", "x#", {"a": ""})
        self.check("x{#a}", "x", {})
        self.check("x{?q}{#a}", "x?q=1#y", {"q": "1", "a": "y"})
        self.check("x{#a}", "x#%ff", None)

    def test_a_variable_that_occurs_twice_has_one_value(self):
        self.check("{a}/{a}", "x/x", {"a": "x"})
        self.check("{a}/{a}", "x/y", None)

    def test_what_cannot_be_told_back(self):
        for template, word in (
            ("{a}{b}", "between 'a' and 'b'"),
            ("{+a}{b}", "between 'a' and 'b'"),
            ("{+a}/{+b}", "both may span"),
            ("{+a,b}", "both may span"),
            ("{+a}{/b*}", "both may span"),
            ("{a:3}", "prefix"),
            ("{a*}", "{/a*}"),
            ("{?a*}", "{/a*}"),
            ("{?a}/x", "follows the query variable 'a'"),
            ("{#a}x", "follows the fragment variable 'a'"),
            ("{#a,b}", "several variables"),
            ("{#a}{?b}", "order"),
            ("{&a}{?b}", "order"),
            ("{?a}{?a}", "repeated"),
            ("{?a}{#a}", "repeated"),
            ("x#y{#a}", "'#'"),
        ):
            found = UriTemplate(template)
            self.assertIn(word, found.unmatchable or "", template)
            self.assertIn(word, str(self.assertRaises(ValueError, found.match, "x")))
        self.assertIsNone(UriTemplate("{a}").unmatchable)

    def test_long_uris_match_nothing(self):
        self.check("{a}", "x" * 64 * 1024, {"a": "x" * 64 * 1024})
        self.check("{a}", "x" * (64 * 1024 + 1), None)


safe = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\x00"), min_size=1, max_size=12)


class MatchingProperties(SynchronousTestCase):
    @settings(deadline=None, max_examples=100)
    @given(safe, safe)
    def test_what_was_expanded_is_told_back(self, first, second):
        assume(".." not in first + second)
        assume("\\" not in first + second)
        for template in (
            "t://{a}/{b}",
            "t://x{/a,b}",
            "t://{a,b}",
            "t:{;a,b}",
            "t://{a}{?b}",
            "t{?a,b}",
            "t://{a}{#b}",
        ):
            found = UriTemplate(template)
            uri = found.expand({"a": first, "b": second})
            if template == "t://{a}{#b}":
                assume("%" not in second)
            self.assertEqual(found.match(uri), {"a": first, "b": second}, (template, uri))

    @settings(deadline=None, max_examples=150)
    @given(st.text("ab-./%2?&=;,#é", max_size=30))
    def test_what_was_told_back_expands_to_the_same(self, uri):
        for template in ("{a}-{b}", "a{+a}b", "{a}.{b}/{c}", "a{/a*}", "{a}{?b,c}"):
            found = UriTemplate(template)
            values = found.match(uri)
            if values is not None:
                self.assertIsNotNone(found.match(found.expand(values)))

    @settings(deadline=None, max_examples=200)
    @given(
        st.text("ab/.", max_size=14),
        st.sampled_from(["{a}a{b}b{c}", "{a}.{b}/{c}", "a{+a}b{b}", "{a}ab{+b}ba{c}/b"]),
    )
    def test_a_match_is_found_where_there_is_one(self, uri, template):
        # The reference tries every split: exponential, and right.
        import re

        assume(".." not in uri)
        pattern = re.sub(r"\\\{\\\+(\w)\\\}", r"(?P<\1>.+)", re.escape(template))
        pattern = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>[^/]+)", pattern)
        expected = re.fullmatch(pattern, uri, re.DOTALL) is not None
        self.assertEqual(UriTemplate(template).match(uri) is not None, expected, pattern)

    def test_hostile_input_takes_linear_work(self):
        # Each call below is one scan in C at most, over a part of the URI that no other scan reads again.
        def calls(template, uri):
            found = UriTemplate(template)
            count = 0

            def counting(frame, event, argument):
                nonlocal count
                count += event in {"call", "c_call"}

            sys.setprofile(counting)
            try:
                found.match(uri)
            finally:
                sys.setprofile(None)
            return count

        many = "".join(f"{{v{number}}}a" for number in range(60))
        for template, unit in (
            (many, "a"),
            (many + "b", "aa"),
            ("{+p}aab{q}", "a"),
            ("{a}/{b}", "a"),
            (many, "b"),
        ):
            self.assertLessEqual(calls(template, unit * 30_000), calls(template, unit * 300) + 10, template)
            self.assertLess(calls(template, unit * 30_000), 1_000, template)
        self.assertLess(calls("x{/p*}", "x" + "/a" * 30_000), 10 * 30_000)
        self.assertLess(calls("x{?a,b}", "x?" + "a&" * 30_000), 100)
