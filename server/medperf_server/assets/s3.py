"""Files in a bucket of Amazon S3, or of anything that speaks its protocol."""

import io
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256 as new_sha256
from typing import Any, BinaryIO, cast

from medperf_server.assets.base import PIECE_BYTES, NotStored, Store, Unavailable

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MOST_PARTS = 10_000
# One request copies at most 5 GiB, and takes longer the more that is.
COPY_BYTES = 256 << 20
# As many connections as boto3 keeps.
AT_ONCE = 10


class S3Store(Store):
    """`<prefix>assets/<sha256>` and `<prefix>uploads/<upload>/<piece>` in a bucket.

    boto3 finds credentials and region in its own places, such as `AWS_ACCESS_KEY_ID`. The
    `endpoint` is the URL of a server other than Amazon's.
    """

    def __init__(self, bucket: str, prefix: str = "", endpoint: str | None = None) -> None:
        self._bucket, self._endpoint = bucket, endpoint
        self._assets, self._uploads = f"{prefix}assets/", f"{prefix}uploads/"

    @cached_property
    def _client(self) -> Any:
        # Imported late: only who keeps files in a bucket needs it.
        import boto3
        from botocore.config import Config

        config = Config(
            # Not all that speak the protocol know its newer checksums, and hosts named by buckets.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            retries={"mode": "standard", "total_max_attempts": 4},
            max_pool_connections=AT_ONCE,
        )
        # A session of its own: boto3's common one is not for several threads.
        return boto3.session.Session().client("s3", endpoint_url=self._endpoint, config=config)

    def _piece(self, upload: str, name: str = "") -> str:
        return f"{self._uploads}{upload}/{name}"

    def write_piece(self, upload: str, name: str, data: memoryview) -> None:
        """See `Store`."""
        with _asking():
            self._client.put_object(
                Bucket=self._bucket, Key=self._piece(upload, name), Body=bytes(data)
            )

    def assemble(self, upload: str, pieces: Iterable[str]) -> tuple[str, str]:
        """See `Store`."""
        from boto3.s3.transfer import TransferConfig

        keys, name = [self._piece(upload, piece) for piece in pieces], secrets.token_hex(16)
        sizes = {one["Key"]: one["Size"] for one in self._listed(self._piece(upload))}
        size = sum(sizes.get(key, 0) for key in keys)
        whole = _Joined(map(self.body, keys))
        config = TransferConfig(
            multipart_chunksize=max(PIECE_BYTES, -(-size // MOST_PARTS)), use_threads=False
        )
        with _asking():
            self._client.upload_fileobj(
                whole, self._bucket, self._piece(upload, name), Config=config
            )
        return name, whole.digest.hexdigest()

    def publish(self, upload: str, piece: str, sha256: str) -> None:
        """See `Store`."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=COPY_BYTES, multipart_chunksize=COPY_BYTES)
        source = {"Bucket": self._bucket, "Key": self._piece(upload, piece)}
        with _asking():
            self._client.copy(source, self._bucket, self._assets + sha256, Config=config)

    def remove_piece(self, upload: str, name: str) -> None:
        """See `Store`."""
        self._delete(self._piece(upload, name))

    def discard(self, upload: str) -> None:
        """See `Store`."""
        # One by one: a request for many has a checksum in a form that not all servers know.
        with ThreadPoolExecutor(AT_ONCE) as executor:
            keys = [one["Key"] for one in self._listed(self._piece(upload))]
            list(executor.map(self._delete, keys))
        # What a process that was killed had begun to join.
        begun = self._pages("list_multipart_uploads", "Uploads", Prefix=self._piece(upload))
        for one in begun:
            with _asking():
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=one["Key"], UploadId=one["UploadId"]
                )

    def uploads(self) -> set[str]:
        """See `Store`."""
        folders = self._pages(
            "list_objects_v2", "CommonPrefixes", Prefix=self._uploads, Delimiter="/"
        )
        return {one["Prefix"].removeprefix(self._uploads).rstrip("/") for one in folders}

    def __contains__(self, sha256: str) -> bool:
        try:
            self._size(sha256)
        except NotStored:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return (one["Key"].removeprefix(self._assets) for one in self._listed(self._assets))

    def open(self, sha256: str) -> BinaryIO:
        """See `Store`."""
        size = self._size(sha256)
        return cast(BinaryIO, _Object(self, self._assets + sha256, size))

    def remove(self, sha256: str) -> None:
        """See `Store`."""
        self._delete(self._assets + sha256)

    def _size(self, sha256: str) -> int:
        with _asking():
            answer = self._client.head_object(Bucket=self._bucket, Key=self._assets + sha256)
        return int(answer["ContentLength"])

    def _delete(self, key: str) -> None:
        with _asking():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        return self._pages("list_objects_v2", "Contents", Prefix=prefix)

    def _pages(self, operation: str, what: str, **options: str) -> Iterator[dict[str, Any]]:
        with _asking():
            pages = self._client.get_paginator(operation).paginate(Bucket=self._bucket, **options)
            for page in pages:
                yield from page.get(what, ())

    def body(self, key: str, start: int = 0) -> Any:
        """An object's bytes from `start` on, as a stream of botocore's."""
        with _asking():
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-")
        return answer["Body"]


class _Joined(io.RawIOBase):
    """Streams one after the other, and the SHA-256 of what was read of them."""

    def __init__(self, streams: Iterator[Any]) -> None:
        self._streams, self._stream = streams, next(streams, None)
        self.digest = new_sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Fewer bytes only at the end: what S3 takes as a part may not be small before that."""
        found = bytearray()
        while self._stream is not None and len(found) < size:
            with _asking():
                chunk = self._stream.read(size - len(found))
            if chunk:
                found += chunk
            else:
                self._stream.close()
                self._stream = next(self._streams, None)
        self.digest.update(found)
        return bytes(found)


class _Object(io.RawIOBase):
    """An object to read from anywhere; it is asked for when it is read."""

    def __init__(self, store: S3Store, key: str, size: int) -> None:
        self._store, self._key, self._length = store, key, size
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; what was asked for before is let go."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._release()
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Some of the next bytes."""
        if self._position >= self._length:
            return 0
        if self._body is None:
            self._body = self._store.body(self._key, self._position)
        with _asking():
            chunk = self._body.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """Let the connection go."""
        self._release()
        super().close()

    def _release(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


@contextmanager
def _asking() -> Iterator[None]:
    """What boto3 raises in the block becomes `NotStored` or `Unavailable`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchUpload"):
            raise NotStored(str(error)) from error
        raise Unavailable(str(error)) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Unavailable(str(error)) from error
