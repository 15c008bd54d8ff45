# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Asks NVIDIA's management library (NVML): gpus.py asks each GPU, the others each read one part of the answer."""

from devagent.sources.nvml.gpus import SOURCE, is_denied, is_unknown, look, problems, sees

__all__ = ["SOURCE", "is_denied", "is_unknown", "look", "problems", "sees"]
