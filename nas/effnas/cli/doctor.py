"""`effnas doctor`: each part that a search needs, in a line of its own as soon as it was tried."""

from __future__ import annotations

from dataclasses import asdict

from effnas.cli.session import LongCommand
from effnas.cli.tables import counted, facts
from effnas.cli.wording import with_options
from effnas.workflows.doctor import Check, DoctorSettings, examine


class DoctorCommand(LongCommand[DoctorSettings, list[Check]]):
    """Prints what is found."""

    def work(self) -> list[Check]:
        found = []
        for check in examine(self.settings, lambda name: self.preparing(f"trying: {name}")):
            found.append(check)
            said = f"{check.state}: {with_options(check.text)}"
            self.screen.print(facts([(f"{check.name:<8}", said)]))
        return found

    def payload(self, result: list[Check]) -> dict[str, object]:
        return {"ok": self.succeeded(result), "checks": [asdict(check) for check in result]}

    def show(self, result: list[Check]) -> None:
        failed = sum(check.state == "failed" for check in result)
        warnings = sum(check.state == "warning" for check in result)
        if failed:
            self.say(f"\n{counted(failed, 'part')} of {len(result)} failed: a search would, too.")
        else:
            worth = f", with {counted(warnings, 'warning')}" if warnings else ""
            self.say(f"\nAll parts work{worth}.")

    def succeeded(self, result: list[Check]) -> bool:
        return all(check.state != "failed" for check in result)
