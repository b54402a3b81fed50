"""Consumer selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wsrec.client.consumer import Consumer as PythonConsumer
from wsrec.client.consumer import Message as PythonMessage

if TYPE_CHECKING:
    CompiledConsumer: type[PythonConsumer] | None
    CompiledMessage: type[PythonMessage] | None
    # the names for annotations of callbacks
    Message = PythonMessage
    Consumer = PythonConsumer
else:
    try:
        from wsrec.client._consumer import Consumer as CompiledConsumer
        from wsrec.client._consumer import Message as CompiledMessage
    except ImportError:
        CompiledConsumer = CompiledMessage = None

    _compiled = CompiledConsumer is not None and not os.environ.get("WSREC_PURE")
    Consumer = CompiledConsumer if _compiled else PythonConsumer
    Message = CompiledMessage if _compiled else PythonMessage
