#!/usr/bin/env python3
"""Writes encrypted.pdf: one page that opens with the password "secret" only (AES-256).

    python3 -m venv venv && venv/bin/pip install pikepdf==10.18.0
    venv/bin/python make_encrypted.py
"""

from pathlib import Path

import pikepdf

pdf = pikepdf.new()
pdf.add_blank_page(page_size=(200, 100))
pdf.save(
    Path(__file__).with_name("encrypted.pdf"),
    encryption=pikepdf.Encryption(owner="owner", user="secret", R=6),
    deterministic_id=False,
)
