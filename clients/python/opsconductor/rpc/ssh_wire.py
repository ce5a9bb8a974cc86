"""The SSH wire encoding (RFC 4251, section 5), read strictly and to the last byte."""

from __future__ import annotations


class WireError(ValueError):
    """The bytes are not what the format allows."""


class Reader:
    """Reads fields one after the other; every length is checked before it is believed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> bytes:
        """Returns the next bytes."""
        end = self._position + count
        if end > len(self._data):
            raise WireError("cut short")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def uint32(self) -> int:
        """Returns the next four bytes as a number."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Returns the next length-prefixed bytes."""
        return self.take(self.uint32())

    def text(self) -> str:
        """Returns the next string, which must be printable ASCII."""
        data = self.string()
        if not all(0x20 <= byte < 0x7F for byte in data):
            raise WireError("unprintable characters in a name")
        return data.decode("ascii")

    def positive(self) -> int:
        """Returns the next mpint, which must be positive and in its shortest form."""
        data = self.string()
        number = int.from_bytes(data, "big")
        if number == 0 or data != _mpint(number):
            raise WireError("not a positive number in shortest form")
        return number

    def end(self) -> None:
        """Refuses bytes nobody asked for: they would make many forms of one signature."""
        if self._position != len(self._data):
            raise WireError("trailing bytes")


def string(data: bytes) -> bytes:
    """Returns length-prefixed bytes."""
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    """Returns a positive number as a length-prefixed mpint."""
    return string(_mpint(number))


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
