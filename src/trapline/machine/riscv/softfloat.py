"""IEEE 754 binary arithmetic on bit patterns, exact: the operations of F, D and Zfa, with all rounding modes and flags.

The method is the definition: compute the exact result as an integer times a power of two, then round once. Where the
exact result is no such number (quotients, square roots), compute more bits than are kept and let the last one say that
there is a rest.

RISC-V's choices (volume I, "F Extension"): NaN results are the canonical NaN, tininess is detected after rounding,
conversions to integers saturate, minimum and maximum prefer numbers, and -0 is less than +0 there.

Every function returns (result, flags).
"""

from __future__ import annotations

from math import isqrt
from trapline.typed import NamedTuple

RNE, RTZ, RDN, RUP, RMM = range(5)  #: rounding modes
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16  #: flags: inexact, underflow, overflow, division by zero, invalid
Result = tuple[int, int]


class Float(NamedTuple):
    """A binary interchange format."""

    bits: int
    precision: int  #: significant bits, the hidden one included
    sign: int  #: mask
    infinity: int
    nan: int  #: the canonical one; its fraction is the quiet bit
    lowest: int  #: exponent of the last bit of subnormal numbers


def _format(bits: int, precision: int) -> Float:
    exponent = bits - precision
    infinity = ((1 << exponent) - 1) << (precision - 1)
    lowest = 3 - (1 << (exponent - 1)) - precision
    return Float(bits, precision, 1 << (bits - 1), infinity, infinity | 1 << (precision - 2), lowest)


SINGLE, DOUBLE = _format(32, 24), _format(64, 53)
FORMATS = {32: SINGLE, 64: DOUBLE}


def is_nan(a: int, fmt: Float) -> bool:
    return a & ~fmt.sign > fmt.infinity


def is_signalling(a: int, fmt: Float) -> bool:
    return a & ~fmt.sign > fmt.infinity and not a & fmt.nan & ~fmt.infinity


def is_infinite(a: int, fmt: Float) -> bool:
    return a & ~fmt.sign == fmt.infinity


def split(a: int, fmt: Float) -> tuple[int, int]:
    """A finite number's magnitude as (integer, exponent): integer * 2**exponent."""
    a &= ~fmt.sign
    biased = a >> (fmt.precision - 1)
    if not biased:
        return a, fmt.lowest
    hidden = 1 << (fmt.precision - 1)
    return a & (hidden - 1) | hidden, biased - 1 + fmt.lowest


def _rounds_up(negative: bool, odd: bool, rest: int, half: int, mode: int) -> bool:
    """Whether a magnitude with `rest` beyond its last bit (half: the middle) is rounded away from zero."""
    if mode == RNE:
        return rest > half or (rest == half and odd)
    if mode == RMM:
        return rest >= half
    return rest > 0 and mode == (RDN if negative else RUP)


def _shift_right(negative: bool, number: int, shift: int, mode: int) -> tuple[int, bool]:
    """number / 2**shift rounded to an integer, and whether it is inexact."""
    if shift <= 0:
        return number << -shift, False
    rest = number & ((1 << shift) - 1)
    kept = number >> shift
    if _rounds_up(negative, bool(kept & 1), rest, 1 << (shift - 1), mode):
        kept += 1
    return kept, rest != 0


def pack(negative: bool, number: int, exponent: int, fmt: Float, mode: int) -> Result:
    """Round number * 2**exponent (number >= 0) to the format."""
    sign = fmt.sign if negative else 0
    if not number:
        return sign, 0
    wanted = exponent + number.bit_length() - fmt.precision  # of the last bit kept, were there no least one
    last = max(wanted, fmt.lowest)
    kept, inexact = _shift_right(negative, number, last - exponent, mode)
    flags = NX if inexact else 0
    if inexact and wanted < fmt.lowest and _is_tiny(negative, number, exponent, wanted, fmt, mode):
        flags |= UF
    # A carry out of `kept` moves the exponent by itself: the fields are adjacent.
    pattern = ((last - fmt.lowest) << (fmt.precision - 1)) + kept
    if pattern >= fmt.infinity:
        to_infinity = mode in (RNE, RMM) or mode == (RDN if negative else RUP)
        return sign | fmt.infinity - (0 if to_infinity else 1), OF | NX
    return sign | pattern, flags


def _is_tiny(negative: bool, number: int, exponent: int, wanted: int, fmt: Float, mode: int) -> bool:
    """Whether the result, rounded as if exponents had no bound, is still below the smallest normal number."""
    kept, _ = _shift_right(negative, number, wanted - exponent, mode)
    return kept.bit_length() + wanted < fmt.lowest + fmt.precision


def _invalid_if(signalling: bool, fmt: Float) -> Result:
    return fmt.nan, NV if signalling else 0


def _nan_of(fmt: Float, *operands: int) -> Result | None:
    """The result if an operand is a NaN."""
    if any(is_nan(each, fmt) for each in operands):
        return _invalid_if(any(is_signalling(each, fmt) for each in operands), fmt)
    return None


# ---- arithmetic


def add(a: int, b: int, fmt: Float, mode: int) -> Result:
    nan = _nan_of(fmt, a, b)
    if nan:
        return nan
    if is_infinite(a, fmt):
        return (fmt.nan, NV) if is_infinite(b, fmt) and a != b else (a, 0)
    if is_infinite(b, fmt):
        return b, 0
    (m, e), (n, f) = split(a, fmt), split(b, fmt)
    return _sum(bool(a & fmt.sign), m, e, bool(b & fmt.sign), n, f, fmt, mode)


def _sum(s: bool, m: int, e: int, t: bool, n: int, f: int, fmt: Float, mode: int) -> Result:
    """(-1)**s m 2**e + (-1)**t n 2**f, rounded. An exact zero of unlike signs is +0, or -0 when rounding down."""
    low = min(e, f)
    total = ((-m if s else m) << (e - low)) + ((-n if t else n) << (f - low))
    if total:
        return pack(total < 0, abs(total), low, fmt, mode)
    negative = s if s == t else mode == RDN
    return fmt.sign if negative else 0, 0


def sub(a: int, b: int, fmt: Float, mode: int) -> Result:
    return add(a, b if is_nan(b, fmt) else b ^ fmt.sign, fmt, mode)


def mul(a: int, b: int, fmt: Float, mode: int) -> Result:
    nan = _nan_of(fmt, a, b)
    if nan:
        return nan
    sign = (a ^ b) & fmt.sign
    if is_infinite(a, fmt) or is_infinite(b, fmt):
        zero = not a & ~fmt.sign or not b & ~fmt.sign
        return (fmt.nan, NV) if zero else (sign | fmt.infinity, 0)
    (m, e), (n, f) = split(a, fmt), split(b, fmt)
    return pack(bool(sign), m * n, e + f, fmt, mode)


def fma(a: int, b: int, c: int, fmt: Float, mode: int) -> Result:
    """a * b + c. Infinity times zero is invalid even if c is a quiet NaN."""
    zero_times_infinity = (_is_zero(a, fmt) and is_infinite(b, fmt)) or (_is_zero(b, fmt) and is_infinite(a, fmt))
    nan = _nan_of(fmt, a, b, c)
    if nan or zero_times_infinity:
        return fmt.nan, NV if zero_times_infinity else nan[1] if nan else 0
    sign = (a ^ b) & fmt.sign
    if is_infinite(a, fmt) or is_infinite(b, fmt):
        return (fmt.nan, NV) if is_infinite(c, fmt) and sign != c & fmt.sign else (sign | fmt.infinity, 0)
    if is_infinite(c, fmt):
        return c, 0
    (m, e), (n, f), (p, g) = split(a, fmt), split(b, fmt), split(c, fmt)
    return _sum(bool(sign), m * n, e + f, bool(c & fmt.sign), p, g, fmt, mode)


def _is_zero(a: int, fmt: Float) -> bool:
    return not a & ~fmt.sign


def div(a: int, b: int, fmt: Float, mode: int) -> Result:
    nan = _nan_of(fmt, a, b)
    if nan:
        return nan
    sign = (a ^ b) & fmt.sign
    if is_infinite(a, fmt):
        return (fmt.nan, NV) if is_infinite(b, fmt) else (sign | fmt.infinity, 0)
    if is_infinite(b, fmt):
        return sign, 0
    (m, e), (n, f) = split(a, fmt), split(b, fmt)
    if not n:
        return (sign | fmt.infinity, DZ) if m else (fmt.nan, NV)
    shift = max(0, fmt.precision + 3 + n.bit_length() - m.bit_length())
    quotient, rest = divmod(m << shift, n)
    return pack(bool(sign), quotient << 1 | (rest != 0), e - f - shift - 1, fmt, mode)


def sqrt(a: int, fmt: Float, mode: int) -> Result:
    nan = _nan_of(fmt, a)
    if nan:
        return nan
    if _is_zero(a, fmt):
        return a, 0
    if a & fmt.sign:
        return fmt.nan, NV
    if is_infinite(a, fmt):
        return a, 0
    m, e = split(a, fmt)
    shift = 2 * fmt.precision + 8 - m.bit_length()
    shift += (e - shift) & 1
    m <<= shift
    root = isqrt(m)
    return pack(False, root << 1 | (root * root != m), (e - shift) // 2 - 1, fmt, mode)


# ---- comparison


def _order(a: int, fmt: Float) -> int:
    """A number whose order is that of the (not NaN) floats, -0 just below +0."""
    return -1 - (a & ~fmt.sign) if a & fmt.sign else a


def eq(a: int, b: int, fmt: Float) -> Result:
    """Quiet."""
    if is_nan(a, fmt) or is_nan(b, fmt):
        return 0, NV if is_signalling(a, fmt) or is_signalling(b, fmt) else 0
    return int(a == b or not (a | b) & ~fmt.sign), 0


def lt(a: int, b: int, fmt: Float, *, quiet: bool = False) -> Result:
    if is_nan(a, fmt) or is_nan(b, fmt):
        return 0, NV if not quiet or is_signalling(a, fmt) or is_signalling(b, fmt) else 0
    return int(_order(a, fmt) < _order(b, fmt) and bool((a | b) & ~fmt.sign)), 0


def le(a: int, b: int, fmt: Float, *, quiet: bool = False) -> Result:
    if is_nan(a, fmt) or is_nan(b, fmt):
        return 0, NV if not quiet or is_signalling(a, fmt) or is_signalling(b, fmt) else 0
    return int(_order(a, fmt) <= _order(b, fmt) or not (a | b) & ~fmt.sign), 0


def minimum(a: int, b: int, fmt: Float, *, greatest: bool = False, numbers: bool = True) -> Result:
    """The least (greatest) of two. numbers: a NaN operand gives the other one, else it gives NaN."""
    flags = NV if is_signalling(a, fmt) or is_signalling(b, fmt) else 0
    nan_a, nan_b = is_nan(a, fmt), is_nan(b, fmt)
    if nan_a or nan_b:
        if not numbers or (nan_a and nan_b):
            return fmt.nan, flags
        return (b if nan_a else a), flags
    first = _order(a, fmt) < _order(b, fmt)
    return (a if first != greatest else b), flags


def classify(a: int, fmt: Float) -> int:
    """One of ten bits: -inf, -normal, -subnormal, -0, +0, +subnormal, +normal, +inf, signalling NaN, quiet NaN."""
    if is_nan(a, fmt):
        return 1 << 8 if is_signalling(a, fmt) else 1 << 9
    magnitude = a & ~fmt.sign
    kind = 3 if magnitude == fmt.infinity else 2 if magnitude >> (fmt.precision - 1) else 1 if magnitude else 0
    return 1 << (3 - kind if a & fmt.sign else 4 + kind)


# ---- conversion


def to_int(a: int, fmt: Float, mode: int, width: int, *, signed: bool) -> Result:
    """Saturating; the result is a plain (perhaps negative) int. Out of range and NaN are invalid, and then not inexact."""
    lowest, highest = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    negative = bool(a & fmt.sign)
    if is_nan(a, fmt):
        return highest, NV
    if is_infinite(a, fmt):
        return (lowest if negative else highest), NV
    m, e = split(a, fmt)
    value, inexact = _shift_right(negative, m, -e, mode)
    value = -value if negative else value
    if not lowest <= value <= highest:
        return (lowest if negative else highest), NV
    return value, NX if inexact else 0


def to_int_modular(a: int, fmt: Float) -> Result:
    """Truncated, modulo 2**32; flags as for a saturating conversion to a signed word; 0 for infinities and NaN."""
    _, flags = to_int(a, fmt, RTZ, 32, signed=True)
    if is_nan(a, fmt) or is_infinite(a, fmt):
        return 0, flags
    m, e = split(a, fmt)
    value, _ = _shift_right(False, m, -e, RTZ)
    return (-value if a & fmt.sign else value) & 0xFFFF_FFFF, flags


def from_int(value: int, fmt: Float, mode: int) -> Result:
    return pack(value < 0, abs(value), 0, fmt, mode)


def convert(a: int, fmt: Float, to: Float, mode: int) -> Result:
    if is_nan(a, fmt):
        return to.nan, NV if is_signalling(a, fmt) else 0
    negative = bool(a & fmt.sign)
    if is_infinite(a, fmt):
        return (to.sign if negative else 0) | to.infinity, 0
    return pack(negative, *split(a, fmt), to, mode)


def round_to_integral(a: int, fmt: Float, mode: int, *, exact: bool) -> Result:
    """exact: raise inexact if the value changes."""
    if is_nan(a, fmt):
        return fmt.nan, NV if is_signalling(a, fmt) else 0
    m, e = split(a, fmt)
    if is_infinite(a, fmt) or e >= 0:
        return a, 0
    negative = bool(a & fmt.sign)
    value, inexact = _shift_right(negative, m, -e, mode)
    return pack(negative, value, 0, fmt, mode)[0], NX if inexact and exact else 0
