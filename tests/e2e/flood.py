#!/usr/bin/env python3
"""Clients that take more than they should: a flood of connections is cut with memory flat, five hundred slow clients hold nobody up and
do not last, and each refusal names its limit."""
import re
import socket
import statistics
import threading
import time
import unittest

from harness import cases, client, messages, system, waxwing

CONNECTIONS = 4000
AT_ONCE = 20
RATE = 200
FLOOD_MEGABYTES_MAX = 8
SLOW_CLIENTS = 500
SLOW_TIMEOUT = 6
MORE_MILLISECONDS_MAX = 100
# The kernel takes any address of 127.0.0.0/8; none of them is exempt in these tests.
STRANGERS = {"mynetworks": ["127.0.0.1/32"], "smtpd_network_limit_factor": 0, "postscreen_greet_wait": 0}


def connect(port, source):
    """A connection from another address."""
    return socket.create_connection(("127.0.0.1", port), 20, (source, 0))


def said(connection):
    """All that the server says until it closes."""
    octets = b""
    try:
        while part := connection.recv(4096):
            octets += part
    except ConnectionResetError:
        pass
    return octets


def transaction_ms(server):
    """How long a usual client takes for a message."""
    began = time.monotonic()
    with client.Client(server.port) as connection:
        connection.deliver(messages.plain("usual"), "ann@example.test", f"demo@{server.domain}")
    return (time.monotonic() - began) * 1000


# A line of an ended session.
DISCONNECT = " smtpd: disconnect "


class Flood(unittest.TestCase):
    """One server for each case."""

    def server(self, name, **settings):
        server = waxwing.Waxwing(name, **STRANGERS, **settings).start()
        self.addCleanup(server.close)
        return server

    def test_a_flood_is_cut_with_memory_flat(self):
        server = self.server("flood", smtpd_client_connection_count_limit=AT_ONCE, smtpd_client_connection_rate_limit=RATE)
        transaction_ms(server)
        before = system.pss_megabytes(server.process.pid)
        held, told, silent = [], 0, 0
        for number in range(CONNECTIONS):
            connection = connect(server.port, f"127.1.0.{number % 4 + 1}")
            if len(held) < 4 * AT_ONCE:
                held.append(connection)
                continue
            answer = said(connection)
            connection.close()
            told += answer.startswith(b"421 4.7.0 Error: too many connections")
            silent += not answer
        self.assertGreater(told, 0)
        self.assertEqual(told + silent, CONNECTIONS - len(held), "a connection over the limit was let in")
        usual = transaction_ms(server)
        after = system.pss_megabytes(server.process.pid)
        for connection in held:
            connection.close()
        print(f"      {CONNECTIONS} connections: {told} were told, {silent} closed silently; a usual message {usual:.0f} ms; "
              f"{before:.1f} MB before, {after:.1f} MB after", flush=True)
        self.assertLess(after - before, FLOOD_MEGABYTES_MAX)
        server.wait_for_log(DISCONNECT + '.*limit="?smtpd_client_connection_count_limit')
        text = server.ask("metrics")[0]["text"]
        found = re.findall(r'waxwing_smtpd_refused_total\{limit="smtpd_client_connection_count_limit"\} (\d+)', text)
        self.assertEqual(sum(map(int, found)), told, text)

    def test_slow_clients_hold_nobody_up_and_do_not_last(self):
        server = self.server("slow", smtpd_timeout=f"{SLOW_TIMEOUT}s", smtpd_client_connection_count_limit=0)
        alone = statistics.median(transaction_ms(server) for _ in range(9))
        clients = [connect(server.port, "127.1.0.9") for _ in range(SLOW_CLIENTS)]
        began, ended, usual = time.monotonic(), {}, []
        end = threading.Event()

        def drip():
            while not end.is_set() and len(ended) < SLOW_CLIENTS:
                for number, connection in enumerate(clients):
                    if number not in ended:
                        try:
                            connection.send(b"x")
                        except OSError:
                            ended[number] = time.monotonic() - began
                end.wait(1)
        dripping = threading.Thread(target=drip)
        dripping.start()
        while time.monotonic() - began < SLOW_TIMEOUT - 1:
            usual.append(transaction_ms(server))
            time.sleep(0.1)
        system.wait_for("the slow clients to be cut", lambda: len(ended) == SLOW_CLIENTS, 4 * SLOW_TIMEOUT)
        end.set()
        dripping.join()
        for connection in clients:
            connection.close()
        print(f"      {SLOW_CLIENTS} slow clients: the last was cut after {max(ended.values()):.1f} s (smtpd_timeout {SLOW_TIMEOUT} s); "
              f"a usual message took {statistics.median(usual):.0f} ms in the median, {max(usual):.0f} ms at most; {alone:.0f} ms without them", flush=True)
        # The median: on a busy machine, which also runs the slow clients, single ones say nothing of the server.
        self.assertLess(statistics.median(usual) - alone, MORE_MILLISECONDS_MAX)
        server.wait_for_log(DISCONNECT + ".*end=timeout")

    def test_who_speaks_before_the_greeting_and_who_sends_too_much(self):
        server = waxwing.Waxwing("greeting", **{**STRANGERS, "postscreen_greet_wait": "1s"}, smtpd_client_message_rate_limit=2).start()
        self.addCleanup(server.close)
        hasty = connect(server.port, "127.1.0.5")
        hasty.sendall(b"EHLO hasty.test\r\n")
        self.assertTrue(said(hasty).startswith(b"521 5.5.1 "))
        for number, least in enumerate((0.9, 0.0)):
            began = time.monotonic()
            with client.Client(server.port, source="127.1.0.6") as patient:
                self.assertGreaterEqual(time.monotonic() - began, least)
                self.assertEqual(patient.command("MAIL FROM:<ann@example.test>")[0], 250)
                if number == 1:
                    patient.command("RSET")
                    self.assertEqual(patient.command("MAIL FROM:<ann@example.test>")[0], 450)
        for limit in ("postscreen_greet_wait", "smtpd_client_message_rate_limit"):
            server.wait_for_log(f"limit={limit}")

    def test_a_session_leaves_one_line(self):
        server = self.server("line")
        transaction_ms(server)
        line = server.wait_for_log(DISCONNECT + ".*messages=1")[0]
        for part in ["[127.0.0.1]:", "listener=smtp", "helo=client.example.test", "tls=-", "sasl_username=-", "messages=1",
                     "recipients=1", "refused=0", "octets_in=", "octets_out=", "seconds=", "limit=-", "last_refusal=-"]:
            self.assertIn(part, line)


if __name__ == "__main__":
    cases.main()
