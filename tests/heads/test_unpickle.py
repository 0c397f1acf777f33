"""A pickle that asks for anything but arrays is refused before it can do anything."""

import io
import os
import pickle

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError
from neuface_ray.heads.unpickle import dense, load_object_array, load_pickle


class Call:
    def __init__(self, function, *arguments):
        self.recipe = function, arguments

    def __reduce__(self):
        return self.recipe


def touch(path):
    return Call(os.system, f"touch {path}")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "was_run"


def hostile(target):
    ignored = pickle.dumps(touch(target))
    return {
        "os.system": touch(target),
        "nested": {"v_template": np.zeros(3), "f": [1, (2, {"deep": touch(target)})]},
        "in an object array": np.array([touch(target)], dtype=object),
        "eval": Call(eval, f"open({str(target)!r}, 'w')"),
        "exec": Call(exec, f"open({str(target)!r}, 'w')"),
        "getattr": Call(getattr, str(target), "join"),
        "pickle.loads": Call(pickle.loads, ignored),
        "numpy.load": Call(np.load, str(target), None, True),
        "numpy.savetxt": Call(np.savetxt, str(target), [1.0]),
        "torch.load": Call(torch.load, str(target)),
        "open": Call(open, str(target), "w"),
    }


@pytest.mark.parametrize("name", list(hostile("x")))
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_hostile_pickles_are_refused_and_named(tmp_path, target, name, protocol):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(hostile(target)[name], protocol=protocol))
    with pytest.raises(ModelFileError, match=r"model\.pkl was refused: its pickle asks for \w+") as caught:
        load_pickle(path)
    assert caught.value.code == "unsafe_pickle"
    assert not target.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cchumpy.ch\nCh\n(Vx\ntR.",
        b"cnumpy\nndarray.tofile\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        b"ctorch.storage\n_load_from_bytes\n(Vabc\ntR.",
        b"Pabc\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_odd_opcodes_never_do_more_than_build_a_record(tmp_path, opcodes):
    path = tmp_path / "odd.pkl"
    path.write_bytes(opcodes)
    try:
        result = load_pickle(path)
    except ModelFileError:
        return
    assert type(result).__name__ == "ChumpyRecord"


def test_storages_inside_tensors_are_read_by_torchs_own_safe_loader(tmp_path, target):
    stream = io.BytesIO()
    torch.save(touch(target), stream)
    path = tmp_path / "tensor.pkl"
    path.write_bytes(pickle.dumps(Call(torch.storage._load_from_bytes, stream.getvalue())))
    with pytest.raises(ModelFileError):
        load_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_scalars_and_tensors_survive(tmp_path, protocol):
    content = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "unsigned": np.array([[2**32 - 1]], dtype=np.uint32),
        "scalar": np.float64(2.5),
        "tensor": torch.arange(4).reshape(2, 2),
        "list": [1, 2, 3],
    }
    path = tmp_path / "good.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    loaded = load_pickle(path)
    for key, value in content.items():
        np.testing.assert_array_equal(dense(loaded[key]), np.asarray(value))


def test_object_npy_files(tmp_path, target):
    good, bad, plain = (tmp_path / f"{name}.npy" for name in ("good", "bad", "plain"))
    np.save(good, {"a": np.arange(3)}, allow_pickle=True)
    np.save(bad, {"a": touch(target)}, allow_pickle=True)
    np.save(plain, np.arange(3))
    np.testing.assert_array_equal(load_object_array(good)["a"], [0, 1, 2])
    with pytest.raises(ModelFileError, match="refused"):
        load_object_array(bad)
    with pytest.raises(ModelFileError, match="not one pickled object"):
        load_object_array(plain)
    assert not target.exists()


def test_sparse_records_that_contradict_themselves_are_refused(tmp_path):
    from neuface_ray.heads.unpickle import ColumnsRecord

    record = ColumnsRecord()
    record.__setstate__({"_shape": (2, 2), "data": [1.0], "indices": [0], "indptr": [0, 1]})
    with pytest.raises(ValueError, match="contradicts"):
        dense(record)
    record.__setstate__({"_shape": (2, 3), "data": [1.0, 2.0], "indices": [0, 1], "indptr": [0, 1, 1, 2]})
    np.testing.assert_array_equal(dense(record), [[1, 0, 0], [0, 0, 2]])
