"""Self-signed certificates for servers on loopback, made by openssl's command line."""
import os
import ssl
import subprocess

from . import system


class Pair:
    """A private key and a certificate for a name, in one PEM file that the service user may read: `chain`."""

    def __init__(self, name):
        self.folder = system.work_folder("certificate")
        self.chain = os.path.join(self.folder, "chain.pem")
        key, certificate = os.path.join(self.folder, "key.pem"), os.path.join(self.folder, "certificate.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
                        "-days", "30", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"],
                       stdin=subprocess.DEVNULL, capture_output=True, check=True)
        self.key, self.certificate = key, certificate
        with open(self.chain, "wb") as chain:
            for file in (key, certificate):
                with open(file, "rb") as part:
                    chain.write(part.read())
                system.give_to_service_user(file)
        os.chmod(self.chain, 0o600)
        system.give_to_service_user(self.chain)

    def close(self):
        """Removes the files."""
        system.remove_folder(self.folder)


_context = None


def trusting_all():
    """A client's context that verifies nothing: what is tried here is not trust."""
    global _context
    if _context is None:
        _context = ssl.create_default_context()
        _context.check_hostname = False
        _context.verify_mode = ssl.CERT_NONE
    return _context
