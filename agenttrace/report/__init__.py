"""The report: record files as one page for a browser, without network, frameworks or a build step.

`view` is what the page shows of a record, `sources` reads records into it, `index` and `pack` make the page's data of
it, `write` puts it and the files in `page/` together.
"""

from __future__ import annotations

from agenttrace.report.write import Written, write_report

__all__ = ["Written", "write_report"]
