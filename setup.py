"""Packaging: three import roots, two commands."""

from setuptools import find_packages, setup

ROOTS = ("cache", "client", "server")

setup(
    name="medperf-offline",
    version="0.1.0",
    description="Offline-first MedPerf: a registry, and a client that works from its own cache",
    python_requires=">=3.10",
    package_dir={
        "medperf_cache": "cache/medperf_cache",
        "medperf_client": "client/medperf_client",
        "medperf_server": "server/medperf_server",
    },
    packages=[package for root in ROOTS for package in find_packages(root)],
    package_data={
        "medperf_server": [
            "migrations/*",
            "migrations/versions/*",
            "web/static/*",
            "web/templates/*",
        ]
    },
    install_requires=[
        'backports.tarfile>=1.2; python_version < "3.12"',
        # Not `zstandard`: its reader cannot tell a stream that was cut off from one that ended.
        'backports.zstd>=1.0; python_version < "3.14"',
        # 8.4 and later import uuid and platform first: a sixth of the whole start-up time.
        "click>=8.2,<8.4",
        "confusable-homoglyphs>=3.3",
        "diskcache>=5.6,<6",
        "docker>=7.2",
        "flask>=3.0",
        "flask-migrate>=4.0",
        "flask-smorest>=0.45",
        "flask-sqlalchemy>=3.1",
        # Results that sites sign, and registries verify.
        "in-toto-attestation>=0.9.3",
        "limits>=4.7",
        "marshmallow>=4.0",
        "platformdirs>=4",
        "precis-i18n>=1.1",
        "prometheus-client>=0.20",
        "pyyaml>=6",
        "requests>=2.32",
        "rfc8785>=0.1.4",
        "rich>=13",
        # Results as a research object.
        "rocrate>=0.14,<1",
        "securesystemslib[crypto]>=1.2",
        "sqlalchemy>=2.0",
        # From 2.6 on it decodes no more of a body than it was asked for.
        "urllib3>=2.6",
        "waitress>=3.0",
        "webargs>=8",
    ],
    extras_require={
        # How sure a ranking is; the page says so where it is missing.
        "analysis": ["numpy>=1.26"],
        "gunicorn": ["gunicorn>=27"],
        "postgres": ["psycopg[binary]>=3.1"],
        "redis": ["redis>=5"],
        "s3": ["boto3>=1.36"],
        "keyring": ["keyring>=25"],
        "test": [
            # A mail server to send to.
            "aiosmtpd>=1.4.6",
            "bandit>=1.8",
            "axe-playwright-python>=0.1.7",
            "boto3>=1.36",
            "gunicorn>=27",
            "hypothesis>=6",
            "moto[s3,server]>=5",
            "mypy>=1.10",
            "numpy>=1.26",
            "playwright>=1.45",
            "psutil>=5.9",
            "psycopg[binary]>=3.1",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "redis>=5",
            # What research objects are validated by.
            "roc-validator>=0.8",
            "ruff>=0.5",
            "schemathesis>=4.32",
            "scikit-learn>=1.4",
            # What the analysis is checked against.
            "scipy>=1.11",
            "statsmodels>=0.14.5",
            "types-docker",
            "types-PyYAML",
            "types-requests",
        ],
    },
    entry_points={
        "console_scripts": [
            "medperf=medperf_client.__main__:main",
            "medperf-server=medperf_server.cli:main",
            "medperf-step=medperf_client.executors.worker:main",
        ]
    },
)
