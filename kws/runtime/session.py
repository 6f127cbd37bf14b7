"""Sessions of ONNX Runtime."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def open_session(graph: bytes) -> "onnxruntime.InferenceSession":
    """A session that runs an ONNX model on one CPU thread.

    Raises what ONNX Runtime raises for bytes that are no ONNX model; its exceptions have no common
    base class.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # it would keep memory for each new length of audio
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
