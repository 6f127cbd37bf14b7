"""Speech engines: their interface, one module for each, and a registry."""

import os
import sys

# Without this ONNX Runtime sends telemetry and keeps an ID of this machine in the home folder. It
# must be set before the first import; later only some events can be disabled.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if "onnxruntime" in sys.modules:
    sys.modules["onnxruntime"].disable_telemetry_events()
