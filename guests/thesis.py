#!/usr/bin/env python3
"""What the thesis's programs (Table 5-1) print, computed another way: bin/wayfare/tests/system/thesis_guests.rs has the lines.

    guests/thesis.py [PROGRAM [SIZE [SEED]]]

Input is generated as the programs do it; what they then compute comes from the standard library (hashlib, sorted, heapq,
integers of any length) or another algorithm: levels for breadth-first search, sets of bits for queens and for the longest
common subsequence (Hyyro 2004), Machin's formula for pi. The defaults together take some ten minutes.
"""
import hashlib
import heapq
import struct
import sys
from operator import mul

MASK = (1 << 64) - 1
FNV = 0xCBF29CE484222325


def randoms(seed):
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        yield z ^ z >> 31


def checksum(data, total=FNV):
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 & MASK
    return total


def maze(side, seed):
    random, cells = randoms(seed), side * side
    around = [
        [n for ok, n in ((x + 1 < side, c + 1), (y + 1 < side, c + side), (x > 0, c - 1), (y > 0, c - side)) if ok]
        for y in range(side)
        for x in range(side)
        for c in [y * side + x]
    ]
    doors, seen, way = [set() for _ in range(cells)], [False] * cells, [0]
    seen[0] = True
    while way:
        choices = [n for n in around[way[-1]] if not seen[n]]
        if not choices:
            way.pop()
            continue
        after = choices[next(random) % len(choices)]
        doors[way[-1]].add(after), doors[after].add(way[-1])
        seen[after] = True
        way.append(after)
    for _ in range(cells // 16):
        cell = next(random) % cells
        for other in around[cell][:1]:
            doors[cell].add(other), doors[other].add(cell)
    steps, total = 0, FNV
    for _ in range(16):
        start, goal = next(random) % cells, next(random) % cells
        distance, level, far = [None] * cells, {start}, 0
        while level:
            for cell in level:
                distance[cell] = far
            level = {n for cell in level for n in doors[cell] if distance[n] is None}
            far += 1
        steps += distance[goal]
        total = checksum(struct.pack(f"<{cells}I", *distance), total)
    return f"{steps} {total:016x}"


def sha256(mebibytes, seed):
    random, digest = randoms(seed), hashlib.sha256()
    for _ in range(mebibytes):
        digest.update(struct.pack(f"<{1 << 17}Q", *(next(random) for _ in range(1 << 17))))
    return digest.hexdigest()


def queens(n):
    full, ways, total = (1 << n) - 1, 0, FNV

    def place(columns, rising, falling, placed):
        nonlocal ways, total
        free = full & ~(columns | rising | falling)
        if len(placed) == n:
            ways += 1
            total = checksum(placed, total)
        while free:
            bit = free & -free
            free ^= bit
            place(columns | bit, (rising | bit) << 1, (falling | bit) >> 1, placed + bytes([bit.bit_length() - 1]))

    place(0, 0, 0, b"")
    return f"{ways} {total:016x}"


def quicksort(count, seed):
    def orders():
        random = randoms(seed)
        ordered = sorted(next(random) for _ in range(count))
        yield from [ordered] * 3
        random = randoms(seed)
        yield sorted(next(random) % 1000 for _ in range(count))

    total = FNV
    for ordered in orders():
        total = checksum(struct.pack(f"<{count}Q", *ordered), total)
    return f"{total:016x}"


def text_block(random, size):
    text = bytearray()
    while len(text) < size:
        r = next(random)
        word = (r % 4096) * (r >> 32 & 0xFFF) // 4096 + 1
        for _ in range(2 + word % 7):
            text.append(97 + (word >> 5) % 26)
            word = (word * 25173 + 13849) & MASK
        text += b" " if r >> 60 else b"\n"
        del text[size:]
    return bytes(text)


def pack(data):
    out, last, at, literals = bytearray(), {}, 0, 0

    def literal(end):
        for start in range(literals, end, 128):
            part = data[start : min(start + 128, end)]
            out.append(len(part) - 1)
            out.extend(part)

    while at + 4 <= len(data):
        key = (int.from_bytes(data[at : at + 4], "little") * 2654435761 & 0xFFFFFFFF) >> 16
        candidate, length = last.get(key), 0
        last[key] = at
        if candidate is not None:
            while length < 131 and at + length < len(data) and data[candidate + length] == data[at + length]:
                length += 1
        if length < 4:
            at += 1
            continue
        literal(at)
        out.append(128 + length - 4)
        out.extend((at - candidate).to_bytes(3, "little"))
        at += length
        literals = at
    literal(len(data))
    return bytes(out)


def hashzip(mebibytes, seed):
    random, text, packed, size = randoms(seed), hashlib.sha256(), hashlib.sha256(), 0
    for _ in range(mebibytes):
        block = text_block(random, 1 << 20)
        text.update(block)
        block = pack(block)
        packed.update(block)
        size += len(block)
    return f"{size} {text.hexdigest()} {packed.hexdigest()}"


def common_row(a, b):
    """Lengths of the longest common subsequences of a and each beginning of b."""
    full = (1 << len(b)) - 1
    places = {letter: int("".join("01"[x == letter] for x in reversed(b)), 2) for letter in set(a)}
    row = full
    for letter in a:
        both = row & places[letter]
        row = (row + both | row - both) & full
    lengths = [0]
    for bit in reversed(f"{row:0{len(b)}b}"):
        lengths.append(lengths[-1] + (bit == "0"))
    return lengths


def subsequence(a, b):
    if not a or not b:
        return ""
    if len(a) == 1:
        return a if a in b else ""
    half = len(a) // 2
    forward, backward = common_row(a[:half], b), common_row(a[:half - 1 : -1], b[::-1])
    sums = [f + k for f, k in zip(forward, reversed(backward))]
    best = sums.index(max(sums))
    return subsequence(a[:half], b[:best]) + subsequence(a[half:], b[best:])


def dynprog(n, seed):
    random = randoms(seed)
    a, b = ("".join("acgt"[next(random) >> 62] for _ in range(n)) for _ in range(2))
    row = common_row(a, b)
    total = checksum(struct.pack(f"<{n + 1}I", *row))
    return f"{row[-1]} {checksum(subsequence(a, b).encode(), total):016x}"


def huffman(mebibytes, seed):
    random, size, total = randoms(seed), 0, FNV
    for _ in range(16 * mebibytes):
        block = bytes((r & r >> 8 & r >> 16) & 255 for r in (next(random) for _ in range(1 << 16)))
        # Each node has the bytes below it, which get one bit more when it is joined.
        lengths, nodes = [0] * 256, 256
        heap = [(block.count(byte), byte, [byte]) for byte in set(block)]
        heapq.heapify(heap)
        while len(heap) > 1:
            first, second = heapq.heappop(heap), heapq.heappop(heap)
            for byte in first[2] + second[2]:
                lengths[byte] += 1
            heapq.heappush(heap, (first[0] + second[0], nodes, first[2] + second[2]))
            nodes += 1
        code, codes, before = 0, {}, 0
        for length, byte in sorted((length, byte) for byte, length in enumerate(lengths) if length):
            code <<= length - before
            codes[byte] = f"{code:0{length}b}"
            code, before = code + 1, length
        bits = "".join(codes[byte] for byte in block)
        bits += "0" * (-len(bits) % 8)
        coded = int(bits, 2).to_bytes(len(bits) // 8, "big")
        size += len(coded)
        total = checksum(coded, checksum(lengths, total))
    return f"{size} {total:016x}"


def pi(decimals):
    one = 10 ** (decimals + 20)

    def arctan_inverse(x):
        term = total = one // x
        for k in range(3, 10 * decimals + 100, 2):
            term //= -x * x
            total += term // k
        return total

    sys.set_int_max_str_digits(0)
    digits = str(16 * arctan_inverse(5) - 4 * arctan_inverse(239))[1 : decimals + 1]
    return f"{digits[-10:]} {checksum(digits.encode()):016x}"


def matrix(n, seed):
    random = randoms(seed)
    a, b = ([[(next(random) >> 53) - 1024 for _ in range(n)] for _ in range(n)] for _ in range(2))
    columns = list(zip(*b))
    product = [[sum(map(mul, row, column)) / 256 for column in columns] for row in a]
    total = FNV
    for row in product:
        total = checksum(struct.pack(f"<{n}d", *row), total)
    return f"{sum(product[i][i] for i in range(n)):.8f} {total:016x}"


# A program, a size that takes it some milliseconds, the default, and whether there is a seed.
PROGRAMS = [
    (maze, 60, 1200, 1),
    (sha256, 2, 256, 5),
    (queens, 8, 13, None),
    (quicksort, 5000, 4000000, 1),
    (hashzip, 1, 48, 1),
    (dynprog, 700, 20000, 1),
    (huffman, 1, 40, 1),
    (pi, 1000, 30000, None),
    (matrix, 70, 1000, 1),
]


def main():
    wanted = sys.argv[1:2]
    for program, small, default, seed in PROGRAMS:
        if wanted and wanted[0] != program.__name__:
            continue
        given = [int(text) for text in sys.argv[2:]]
        if given:
            runs = [given + ([seed] if seed is not None and len(given) == 1 else [])]
        else:
            # Small ones with another seed than the default.
            runs = [[small], [default]] if seed is None else [[small, 9], [default, seed]]
        for arguments in runs:
            print(program.__name__, *arguments, end=f": {program(*arguments)}\n", flush=True)


main()
