#!/usr/bin/env python3
"""Writes encrypted.pdf, which opens with the password "secret" only, and restricted.pdf, which opens without one.

Each is one blank page, encrypted with AES-256.

    python3 -m venv venv && venv/bin/pip install pikepdf==10.18.0
    venv/bin/python make_encrypted.py
"""

from pathlib import Path

import pikepdf

for name, user in [("encrypted.pdf", "secret"), ("restricted.pdf", "")]:
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(200, 100))
    pdf.save(Path(__file__).with_name(name), encryption=pikepdf.Encryption(owner="owner", user=user, R=6))
