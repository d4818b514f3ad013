"""DOT text to SVG by Graphviz, in a process of its own that ends after one picture."""

import os
import tempfile

from pygraphviz import graphviz


def lay_out(text: str) -> str:
    """DOT text as SVG. Raises ValueError for text that is not DOT.

    Nothing that Graphviz allocated is freed: pygraphviz 2.0 crashed in gvFreeLayout after one picture in ten, and
    the process ends anyway.
    """
    # The library reads graphs from open files only.
    with os.fdopen(os.memfd_create("dot"), "wb+") if hasattr(os, "memfd_create") else tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        graph = graphviz.agread(file, None)
    context = graphviz.gvContextWithBuiltins()
    if graphviz.gvLayout(context, graph, b"dot"):
        raise ValueError("Graphviz found no layout")
    failed, svg = graphviz.gvRenderData(context, graph, b"svg")
    if failed:
        raise ValueError("Graphviz could not write the picture")
    return svg.decode()


def warm_up() -> None:
    """Read the fonts once; a process that is forked from this one need not."""
    lay_out('digraph { a [label="a"]; b [label="b" fontname="monospace"]; a -> b }')
