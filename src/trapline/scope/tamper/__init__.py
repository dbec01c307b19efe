"""Interfering: calls that are refused, faked, delayed, cut short; the rules for that, and what may fail."""

from trapline.scope.tamper.tamper import Interposer as Interposer
from trapline.scope.tamper.tamper import Tamper as Tamper
