"""Builds the wheel with what Python has itself, so that pip needs no index and no network for it."""

import base64
import hashlib
import os
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
NAME, VERSION = "firstframe_papermill", "0.1.0"
INFO = f"{NAME}-{VERSION}.dist-info"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open(os.path.join(HERE, f"{NAME}.py"), encoding="utf-8") as source:
        files = {f"{NAME}.py": source.read()}
    files[f"{INFO}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: firstframe-papermill\nVersion: {VERSION}\n"
        "Summary: papermill's parameters in TypeScript notebooks\nLicense: Apache-2.0\n"
        "Requires-Python: >=3.10\nRequires-Dist: papermill>=2.4\n"
    )
    files[f"{INFO}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: firstframe\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{INFO}/entry_points.txt"] = f"[papermill.engine]\nfirstframe = {NAME}:Engine\n"
    record = [f"{path},{_hash(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{INFO}/RECORD"] = "\n".join([*record, f"{INFO}/RECORD,,", ""])
    wheel = f"{NAME}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
