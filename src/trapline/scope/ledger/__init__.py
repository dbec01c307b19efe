"""The ledger: what each crossing costs, what is kept of it, and how that is shown."""

from trapline.scope.ledger.account import Account as Account
from trapline.scope.ledger.ledger import Ledger as Ledger
