"""What a Windows program makes of its command line."""

from __future__ import annotations

import re


def windows_arguments(line: str) -> list[str]:
    """Returns what a program of the C runtime makes of its command line."""
    words: list[str] = []
    word, inside, started, position = "", False, False, 0
    while position < len(line):
        slashes = re.match(r"\\*", line[position:])
        count = len(slashes[0]) if slashes else 0
        position += count
        character = line[position : position + 1]
        if character == '"':
            word += "\\" * (count // 2)
            if count % 2:
                word += '"'
            else:
                inside = not inside
                started = True
        else:
            word += "\\" * count
            if character in (" ", "\t") and not inside:
                if word or started:
                    words.append(word)
                word, started = "", False
            else:
                word += character
        position += 1
    return [*words, word] if word or started else words
