# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Described hosts: short YAML files, and what turns them into sysfs trees."""
