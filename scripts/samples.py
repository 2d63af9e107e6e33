"""A client of the monitor service: sends numbered samples, and checks that each has one answer, the right one.

samples.py PORT SECONDS [SAMPLES PER SECOND = 50]: sends whether or not answers come, as a sensor does; computes what the
monitor should make of all samples so far, and compares. Says how many there were, and the longest wait for an answer.
Ends with status 1 if an answer was lost, doubled or another one, or the connection was reset.
"""

import math
import socket
import sys
import threading
import time
from collections import deque


class Analysis:
    """What the monitor computes, in the same order, so that every digit is the same."""

    def __init__(self):
        self.count, self.mean, self.squares, self.smoothed = 0, 0.0, 0.0, 0.0

    def deviation(self):
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def answer(self, number, value):
        alarm = self.count > 10 and abs(value - self.mean) > 3 * self.deviation()
        distance = value - self.mean
        self.count += 1
        self.mean += distance / self.count
        self.squares += distance * (value - self.mean)
        self.smoothed += (value - self.smoothed) / 8
        return f"{number} {self.count} {self.mean:.6f} {self.deviation():.6f} {self.smoothed:.6f} {int(alarm)}"


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 50.0
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(60)
    sent, began = deque(), time.time()
    problem = []

    def send():
        number = 0
        try:
            while time.time() - began < seconds:
                number += 1
                value = 72 + 6 * math.sin(number / 40) + (30 if number % 997 == 0 else 0)
                text = f"{number} {value:.3f}"
                sent.append((number, float(f"{value:.3f}"), time.time()))
                client.sendall(f"{text}\n".encode())
                time.sleep(max(0.0, began + number / rate - time.time()))
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            problem.append(f"cannot send: {error}")

    sender = threading.Thread(target=send)
    sender.start()
    analysis, answers, longest = Analysis(), 0, 0.0
    try:
        for line in client.makefile("r"):
            if not sent:
                problem.append(f"an answer to nothing: {line.strip()}")
                break
            number, value, at = sent.popleft()
            answers, longest = answers + 1, max(longest, time.time() - at)
            expected = analysis.answer(number, value)
            if line.rstrip("\n") != expected:
                problem.append(f"answer {answers} is {line.strip()!r}, and should be {expected!r}")
                break
    except OSError as error:
        problem.append(f"cannot hear: {error}")
    sender.join()
    if sent and not problem:
        problem.append(f"{len(sent)} samples have no answer")
    print(f"{answers} samples answered, longest wait {longest * 1000:.0f} ms, {'; '.join(problem) or 'each once and right'}")
    sys.exit(bool(problem))


main()
