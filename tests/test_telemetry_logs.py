"""Log lines: their forms, what they never show, and how often the same is said."""

import io
import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import InvalidLogLevelError, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from erlmcp.interfaces import Peer, Request
from erlmcp.protocol import CompletionArgument, Params
from erlmcp.telemetry import AccessLog, Counters, Output, RequestFailure, about, report
from erlmcp.telemetry._failures import HIDDEN, hide, secret_words
from erlmcp.telemetry._output import LINES, TRACEBACKS, WINDOW, Bursts
from erlmcp.telemetry._records import LONGEST_FIELD, LONGEST_MESSAGE, LONGEST_TRACEBACK, MOST_FIELDS

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


def request(**fields: Any) -> Request:
    peer = Peer(transport="http", listener="http-1", address="127.0.0.1:9", host="127.0.0.1")
    return Request(**{"id": 7, "method": "tools/call", "name": "boom", "peer": peer, **fields})


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class OutputTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()

    def logger(self, form: str, level: str = "info", namespace: str = "erlmcp.test") -> Logger:
        output = Output(self.stream, form, level=level, monotonic=lambda: self.now)
        return Logger(namespace=namespace, observer=LogPublisher(output))

    def written(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written()]


class FormTests(OutputTestCase):
    """The three forms."""

    def test_text(self) -> None:
        log = self.logger("text")
        log.info("{name} listens", name="http-1")
        log.failure("it broke", Failure(raised(ValueError("why"))))
        first, second, *rest = self.written()
        self.assertRegex(
            first, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[erlmcp\.test#info\] http-1 listens$"
        )
        self.assertRegex(second, r" \[erlmcp\.test#critical\] it broke$")
        self.assertTrue(all(line.startswith("\t") for line in rest), rest)
        self.assertIn("\tbuiltins.ValueError: why", rest)

    def test_whose_it_is(self) -> None:
        """What a worker says must not pass for the daemon's own word."""
        for form, said in (("text", "worker 2: stopped"), ("journal", "[erlmcp.test] worker 2: stopped")):
            self.logger(form).info("stopped", worker=2)
            self.assertIn(said, self.written()[-1])
        self.logger("text").info("worker {worker}: {text}", worker=2, text="printed")
        self.assertTrue(self.written()[-1].endswith("] worker 2: printed"))
        self.logger("json").info("stopped", worker=2)
        record = json.loads(self.written()[-1])
        self.assertEqual((record["message"], record["worker"]), ("stopped", 2))

    def test_journal(self) -> None:
        """Every line has its priority, those of a traceback too; the journal has the time itself."""
        log = self.logger("journal", "debug")
        for level in (log.debug, log.info, log.warn, log.error, log.critical):
            level("said")
        log.failure("it broke", Failure(raised(ValueError("why"))))
        lines = self.written()
        self.assertEqual(lines[:5], [f"<{n}>[erlmcp.test] said" for n in (7, 6, 4, 3, 2)])
        self.assertTrue(all(line.startswith("<2>") for line in lines[5:]), lines)
        self.assertIn("<2>builtins.ValueError: why", lines)

    def test_json(self) -> None:
        log = self.logger("json")
        log.emit(
            LogLevel.warn, "{count} of {name}", count=3, name="x", ratio=0.5, sure=True, no=None, big=1 << 80
        )
        (record,) = self.records()
        self.assertRegex(record.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            record,
            {
                "level": "warn",
                "priority": 4,
                "logger": "erlmcp.test",
                "message": "3 of x",
                "count": 3,
                "name": "x",
                "ratio": 0.5,
                "sure": True,
                "big": str(1 << 80),
            },
        )

    def test_json_of_a_failure(self) -> None:
        self.logger("json").failure("it broke", Failure(raised(ValueError("why"))))
        (record,) = self.records()
        self.assertIn("ValueError: why", record["traceback"])
        self.assertEqual((record["message"], record["priority"]), ("it broke", 2))

    def test_a_failure_from_another_process(self) -> None:
        """Where the failure itself cannot travel, its traceback does, as text."""
        for form in ("text", "json", "journal"):
            self.logger(form).error("it broke", log_traceback="Traceback:\n  ValueError: why")
        self.assertEqual(self.stream.getvalue().count("ValueError: why"), 3)

    def test_fields_that_are_taken(self) -> None:
        self.logger("json").info("x", logger="mine", message="mine", time=1)
        (record,) = self.records()
        self.assertEqual(
            (record["logger"], record["logger_"], record["message_"]), ("erlmcp.test", "mine", "mine")
        )

    def test_fields_of_others_stay_out(self) -> None:
        """Whatever a library hangs on its events may be anything."""
        self.logger("json", namespace="somebody.else").info("x", password="secret")
        self.assertNotIn("secret", self.stream.getvalue())

    def test_levels(self) -> None:
        log = self.logger("text", "warn")
        log.info("not this")
        log.error("but this")
        self.assertEqual(len(self.written()), 1)
        self.assertRaises(InvalidLogLevelError, Output, self.stream, "text", level="loud")

    def test_what_cannot_be_told(self) -> None:
        class Rude:
            def __str__(self) -> str:
                raise RuntimeError("no")

        class Broken(Failure):
            def getTraceback(self, *_: object, **__: object) -> str:  # noqa: N802 - Twisted's name
                raise RuntimeError("no")

        log = self.logger("json")
        log.info("x", rude=Rude())
        log.failure("y", Broken(raised(ValueError())))
        Output(self.stream, "json")({"log_format": "z", "log_time": "when", "log_level": "odd"})
        Output(self.stream, "json")({"log_time": 1.0, "log_level": LogLevel.info})
        first, second, third = self.records()
        self.assertIn("cannot be told", first["rude"])
        self.assertIn("cannot be told", second["traceback"])
        self.assertEqual((third["time"], third["level"], third["logger"]), ("", "info", "-"))


class ForgeryTests(OutputTestCase):
    """What peers send may stand in a line, but make none."""

    def test_lines_of_their_own(self) -> None:
        evil = "x\n2026-01-01T00:00:00+0000 [erlmcp#info] all is well\r\x1b[2J\u2028\udc00"
        for form in ("text", "journal", "json"):
            self.logger(form).info("{name} is unknown", name=evil)
        lines = self.stream.getvalue().split("\n")
        self.assertEqual(lines.pop(), "")
        self.assertEqual(len(lines), 5)
        self.assertTrue(lines[1].startswith("\t2026"))
        self.assertTrue(lines[3].startswith("<6>2026"))
        self.assertEqual(set("\r\x1b\u2028\udc00") & set(self.stream.getvalue()), set())
        self.assertTrue(json.loads(lines[4])["message"].startswith("x\n2026"))

    def test_what_has_no_bytes(self) -> None:
        """Half of a surrogate pair cannot be written; the line is, without it."""
        log = self.logger("json")
        log.failure("y", Failure(raised(ValueError("a\udc00b"))), name="c\udc00d")
        (record,) = self.records()
        self.assertIn("a\\udc00b", record["traceback"])
        self.assertEqual(record["name"], "c\\udc00d")

    def test_bounds(self) -> None:
        log = self.logger("json")
        log.info("{long}", long="x" * 100_000, **{f"f{n}": n for n in range(100)})
        log.failure("y", Failure(raised(ValueError("z" * 100_000))))
        one, two = self.records()
        self.assertEqual(len(one["message"]), LONGEST_MESSAGE + 1)
        self.assertLessEqual(len(one["long"]), LONGEST_FIELD)
        self.assertEqual(len(set(one) - {"time", "level", "priority", "logger", "message"}), MOST_FIELDS)
        self.assertEqual(len(two["traceback"]), LONGEST_TRACEBACK + 1)

    @given(st.text(), st.sampled_from(["text", "journal", "json"]))
    @settings(deadline=None)
    def test_any_text(self, text: str, form: str) -> None:
        self.stream = io.StringIO()
        self.logger(form).info("{name}", name=text)
        written = self.stream.getvalue()
        self.assertTrue(written.endswith("\n"))
        starts = {"text": "\t", "journal": "<6>"}
        if form == "json":
            self.assertEqual(written.count("\n"), 1)
            json.loads(written)
        else:
            for line in written.removesuffix("\n").split("\n")[1:]:
                self.assertTrue(line.startswith(starts[form]), line)
        written.encode()


class RequestFailureTests(OutputTestCase):
    """`report`: the reference, and no arguments."""

    def failing(self, work: Callable[[dict[str, Any]], Any], arguments: dict[str, Any]) -> str:
        """What the log has of work that fails."""
        asked = request(arguments=arguments, trace={"traceparent": TRACEPARENT})
        try:
            work(arguments)
        except BaseException as error:
            reference = report(self.logger("text"), "{method} {name} failed [{reference}]", error, asked)
        self.assertEqual(reference, asked.reference)
        written = self.stream.getvalue()
        self.assertIn(f"[{reference}]", written)
        return written

    def test_arguments_are_hidden(self) -> None:
        def work(arguments: dict[str, Any]) -> None:
            try:
                int(arguments["password"])
            except ValueError as error:
                error.add_note(f"it's {arguments['odd']}")
                raise KeyError(arguments["nested"][0]["pin"]) from error

        arguments = {"password": "hunter2!", "nested": [{"pin": 123456}], "odd": 'a"b\n\\c', "flag": True}
        written = self.failing(work, arguments)
        for secret in ("hunter2!", "123456", 'a"b', "\\c\n"):
            self.assertNotIn(secret, written)
        self.assertIn(f"invalid literal for int() with base 10: '{HIDDEN}'", written)
        # Where it went wrong stays: files, lines, source.
        self.assertIn('raise KeyError(arguments["nested"][0]["pin"])', written)
        self.assertIn("in work", written)

    def test_groups(self) -> None:
        def work(arguments: dict[str, Any]) -> None:
            raise ExceptionGroup("several", [raised(ValueError(arguments["a"])), raised(TypeError("t"))])  # type: ignore[list-item]

        self.assertNotIn("hush-hush", self.failing(work, {"a": "hush-hush"}))

    def test_shown_if_asked_for(self) -> None:
        self.patch(RequestFailure, "shows_arguments", True)
        written = self.failing(lambda arguments: int(arguments["n"]), {"n": "hunter2!"})
        self.assertIn("invalid literal for int() with base 10: 'hunter2!'", written)

    def test_fields(self) -> None:
        asked = request(arguments={"a": "secret"}, trace={"traceparent": TRACEPARENT})
        fields = about(asked)
        self.assertEqual(
            fields,
            {
                "method": "tools/call",
                "name": "boom",
                "id": 7,
                "reference": asked.reference,
                "principal": "anonymous",
                "peer": "127.0.0.1:9",
                "trace_id": "0af7651916cd43dd8448eb211c80319c",
                "span_id": "00f067aa0ba902b7",
            },
        )
        self.assertRegex(asked.reference, "^[0-9a-f]{12}$")
        self.patch(RequestFailure, "shows_arguments", True)
        self.assertEqual(about(asked)["arguments"], '{"a":"secret"}')
        self.assertEqual(about(request(arguments={"a": object}))["arguments"], "{'a': <class 'object'>}")
        self.assertEqual(len(about(request(arguments={"a": "x" * 5000}))["arguments"]), 1025)
        self.assertNotIn("arguments", about(request()))

    def test_answers_are_hidden_too(self) -> None:
        asked = request(answers=[{"password": {"content": {"value": "open sesame"}}}])
        self.assertEqual(secret_words(asked), ["open sesame"])
        raw = Params(input_responses=msgspec.Raw(b'{"k": {"content": {"value": "swordfish"}}}'))
        self.assertEqual(secret_words(request(params=raw)), ["swordfish"])
        argument = Params(argument=CompletionArgument(name="x", value="to be completed"))
        self.assertEqual(secret_words(request(params=argument)), ["to be completed"])

    def test_words(self) -> None:
        words = secret_words(
            request(arguments={"a": ["abc", "abcd", ("abcdef", 1.25, None)], "b": {"c": True}})
        )
        self.assertEqual(
            words, ["abcdef", "abcd", "1.25"] if words[1] == "abcd" else ["abcdef", "1.25", "abcd"]
        )
        self.assertEqual(len(secret_words(request(arguments={"a": [f"word{n}" for n in range(5000)]}))), 1000)

    @given(st.text(min_size=4), st.text(), st.text())
    @settings(deadline=None)
    def test_hiding(self, word: str, before: str, after: str) -> None:
        self.assertNotIn(word, hide(before + word + after, [word]).replace(HIDDEN, "\0"))


class BurstTests(OutputTestCase):
    """A tool that keeps failing does not fill the disk."""

    def test_a_failing_tool(self) -> None:
        log = self.logger("json")
        for _ in range(LINES + 50):
            report(log, "{method} {name} failed", raised(ValueError()), request())
        report(log, "{method} {name} failed", raised(ValueError()), request(name="other"))
        records = self.records()
        self.assertEqual(len(records), LINES + 1)
        self.assertEqual(sum("traceback" in one for one in records), TRACEBACKS + 1)
        self.assertIn("further tracebacks of this are left out", records[TRACEBACKS - 1]["message"])
        self.now = WINDOW
        report(log, "{method} {name} failed", raised(ValueError()), request())
        omitted, failed = self.records()[LINES + 1 :]
        self.assertEqual(omitted["message"], "50 more failures of tools/call boom were left out")
        self.assertIn("traceback", failed)

    def test_the_number_of_kinds_is_bounded(self) -> None:
        bursts = Bursts()
        for number in range(10_000):
            self.assertTrue(bursts.take(number, 0.0).traceback)
        self.assertLessEqual(len(bursts._bursts), 512)


class AccessTests(SynchronousTestCase):
    """`AccessLog`."""

    def test_share(self) -> None:
        counters = Counters()
        draws = iter([0.05, 0.5])
        access = AccessLog(counters, 0.1, lambda: next(draws))
        stream = io.StringIO()
        self.patch(
            __import__("erlmcp.telemetry._access", fromlist=["log"]),
            "log",
            Logger(namespace="erlmcp.access", observer=LogPublisher(Output(stream, "json"))),
        )
        asked = request(arguments={"secret": "hunter2!"}, size=120, target="found")
        access.request(asked, "complete", 0.0125)
        access.request(request(), "error", 1.0)
        access.error("tools/call", -32603)
        (line,) = stream.getvalue().splitlines()
        record = json.loads(line)
        self.assertNotIn("hunter2!", line)
        self.assertEqual(
            record["message"], f"127.0.0.1:9 tools/call boom complete in 12.5 ms [{asked.reference}]"
        )
        self.assertEqual(
            [record[name] for name in ("outcome", "milliseconds", "size", "listener", "era", "share")],
            ["complete", 12.5, 120, "http-1", "modern", 0.1],
        )
        self.assertEqual(sum(slot.count for slot in counters.requests.values()), 2)
        self.assertEqual(counters.errors, {("tools/call", -32603): 1})
