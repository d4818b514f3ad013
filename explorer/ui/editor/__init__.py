"""The program editor: what is typed stays in the browser until Run is pressed."""

from dataclasses import dataclass

from explorer.ui import register_component

_mount = register_component("explorer.ui.editor", "python.js", "editor.js")


@dataclass(frozen=True, slots=True)
class EditorResult:
    """The text as last sent, a count that grows with every Run (0: none yet), whether Stop was just pressed."""

    source: str
    run_count: int
    stop: bool


def edit_program(
    source: str,
    *,
    key: str,
    revision: str,
    problem_line: int | None,
    problem_message: str | None,
    running: bool,
    completions: list[str],
    session: str = "",
    pair: str = "program",
    large: bool = False,
) -> EditorResult:
    """Show ``source`` in an editor; another ``revision`` replaces what was typed, the same one keeps it.

    In another ``session`` of the same tab (it was reloaded) what was typed is kept whatever the revision.

    ``completions`` are dotted names ("torch.sigmoid") and names with a leading dot that fit any value
    (".backward"). The editor and the graph of the same ``pair`` highlight each other's lines.
    """
    result = _mount(
        key=key,
        data={
            "key": key,
            "source": source,
            "revision": revision,
            "problem_line": problem_line,
            "problem_message": problem_message,
            "running": running,
            "completions": completions,
            "session": session,
            "pair": pair,
            "large": large,
        },
        on_sent_change=lambda: None,
        on_stop_change=lambda: None,
    )
    sent = result.get("sent") or {}
    is_current = sent.get("revision") == revision
    return EditorResult(
        source=sent["source"] if is_current else source,
        run_count=sent["count"] if sent else 0,
        stop=result.get("stop") is not None,
    )
