"""A client that streams numbered bytes to an echo service and checks that just these come back.

talk.py PORT SECONDS: connects three times, and says what was sent, what came, and the longest silence.
Ends with status 1 if a byte was lost, doubled or changed, or a connection was reset.
"""

import random
import socket
import sys
import threading
import time


def talk(port, until, results):
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(60)
    expected, sent, pending = random.Random(1), 0, bytearray()
    lock = threading.Lock()

    def send():
        nonlocal sent
        while time.time() < until:
            block = expected.randbytes(1000)
            with lock:
                pending.extend(block)
            client.sendall(block)
            sent += len(block)
            time.sleep(0.001)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    got, silence, last, wrong = 0, 0.0, time.time(), ""
    try:
        while data := client.recv(65536):
            silence, last = max(silence, time.time() - last), time.time()
            with lock:
                if bytes(pending[: len(data)]) != data:
                    wrong = f"other bytes after {got}"
                del pending[: len(data)]
            got += len(data)
    except OSError as error:
        wrong = str(error)
    sender.join()
    results.append((sent, got, silence, wrong or ("" if sent == got else "bytes are missing")))


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    results = []
    clients = [threading.Thread(target=talk, args=(port, time.time() + seconds, results)) for _ in range(3)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for sent, got, silence, wrong in results:
        print(f"client: {sent} bytes sent, {got} came back, longest silence {silence * 1000:.0f} ms, {wrong or 'all right'}")
    sys.exit(any(wrong for *_, wrong in results) or len(results) < 3)


main()
