"""`loadbench token`: who may use the REST API."""

from __future__ import annotations

import argparse
import getpass
import sys

from loadbench.commands.shape import add_command, add_json, print_json
from loadbench.errors import InvalidInput


def add(commands) -> None:
    token = commands.add_parser("token", help="make, list and revoke tokens for the REST API")
    actions = token.add_subparsers(required=True, metavar="ACTION")
    create = add_command(actions, "create", create_token, "make a token; its secret is printed once and kept nowhere")
    create.add_argument("name", help="whose or what it is; it goes into createdBy of what is made with it")
    create.add_argument(
        "--role",
        choices=["viewer", "runner", "admin"],
        default="viewer",
        help="viewer reads, runner also writes and starts, admin also deletes (default: %(default)s)",
    )
    create.add_argument(
        "--scope",
        default="local/local/default",
        help="account, account/organisation or account/organisation/project; * for everything (default: %(default)s)",
    )
    create.add_argument("--days", type=int, help="how long it is good for (default: until it is revoked)")
    add_json(create)
    add_json(add_command(actions, "list", list_tokens, "list the tokens, without their secrets"))
    revoke = add_command(actions, "revoke", revoke_token, "make a token worthless, at once")
    revoke.add_argument("token", help="its id, as `loadbench token list` shows it")
    add_json(revoke)


def create_token(options: argparse.Namespace) -> int:
    from loadbench.model import ApiToken, now_ms
    from loadbench.store import Store

    parts = [] if options.scope == "*" else options.scope.split("/")
    if len(parts) > 3:
        raise InvalidInput(f"--scope has at most three parts; not {options.scope!r}", field="scope")
    if options.days is not None and not 1 <= options.days <= 3650:
        raise InvalidInput(f"--days must be in 1-3650; not {options.days}", field="days")
    token = ApiToken.build(
        name=options.name,
        role=options.role,
        created_by=getpass.getuser(),
        expires_at=None if options.days is None else now_ms() + options.days * 86_400_000,
        **dict(zip(("account_id", "org_id", "project_id"), parts, strict=False)),
    )
    with Store.open() as store:
        token, secret = store.tokens.create_api(token)
    if options.json:
        print_json({"token": token, "secret": secret})
    else:
        print(f"{token.id}: {token.role} of {_scope_of(token)}; this is shown once:", file=sys.stderr)
        print(secret)
    return 0


def list_tokens(options: argparse.Namespace) -> int:
    from loadbench.model import now_ms
    from loadbench.store import Store

    with Store.open() as store:
        tokens = store.tokens.all_api()
    if options.json:
        print_json(tokens)
    for token in [] if options.json else tokens:
        state = "good" if token.is_good(now_ms()) else "revoked" if token.revoked_at else "expired"
        print(f"{token.id}  {token.role:<6}  {state:<7}  {_scope_of(token)}  {token.name}")
    if not tokens and not options.json:
        print("no tokens yet: `loadbench token create NAME` makes one")
    return 0


def revoke_token(options: argparse.Namespace) -> int:
    from loadbench.store import Store

    with Store.open() as store:
        token = store.tokens.revoke_api(options.token)
    print_json(token) if options.json else print(f"{token.id} ({token.name}) is revoked")
    return 0


def _scope_of(token) -> str:
    return "/".join(part for part in (token.account_id, token.org_id, token.project_id) if part) or "everything"
