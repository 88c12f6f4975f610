"""What of jupyter_client and nbconvert is used that they do not document: a kernel's end, a page without a detour."""

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client import AsyncKernelManager
    from nbconvert import HTMLExporter


@functools.cache
def prompt_manager() -> "type[AsyncKernelManager]":
    """jupyter_client's manager of a kernel, which sees the kernel's end at once instead of after up to 0.1 s.

    Private: `AsyncKernelManager._async_wait`, which polls.
    Seen: jupyter_client 8.10.0.
    Without: `AsyncKernelManager` itself; each run takes 0.05 s longer.
    """
    from jupyter_client import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        """A manager that polls more often."""

        async def _async_wait(self, pollinterval: float = 0.1) -> None:
            await super()._async_wait(min(pollinterval, 0.002))

    return Kernel


def launching() -> "tuple[type[AsyncKernelManager], str]":
    """(the class, the name of its method) of what asks for a kernel's process, for a clock around it.

    Private: `AsyncKernelManager._async_launch_kernel`.
    Seen: jupyter_client 8.10.0.
    Without: the bench tells fork and kernel start in one.
    """
    return prompt_manager(), "_async_launch_kernel"


def single_pass_exporter() -> "type[HTMLExporter]":
    """nbconvert's exporter to HTML without its second pass, which parses each page whole to make figures focusable.

    Private: `_init_resources` and `_nb_metadata`; that `HTMLExporter.from_notebook_node` registers these two filters.
    Seen: nbconvert 7.17.2.
    Without: `HTMLExporter` itself; a page takes twice as long.
    """
    from nbconvert import HTMLExporter
    from nbconvert.exporters.templateexporter import TemplateExporter
    from nbconvert.filters import Highlight2HTML
    from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter

    class Pages(HTMLExporter):
        """An exporter of one pass."""

        def from_notebook_node(
            self, nb: Any, resources: Any = None, **options: Any
        ) -> tuple[Any, Any]:
            """The page of `nb`, and the resources."""
            resources = self._init_resources(resources)
            lexer = nb.metadata.get("language_info", {}).get("pygments_lexer", "ipython3")
            self.register_filter(
                "highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self)
            )
            types = {"notebook_metadata": self._nb_metadata, "resources": resources}
            self.register_filter("filter_data_type", WidgetsDataTypeFilter(parent=self, **types))
            return TemplateExporter.from_notebook_node(self, nb, resources, **options)

    return Pages
