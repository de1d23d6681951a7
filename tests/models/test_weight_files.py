"""Weight files are read by their content, to the last bit; whatever else a file does is refused in one line."""

import base64
import contextlib
import hashlib
import os
import pickle
import random
import re
import struct
import sys
import tarfile
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from fcam_jax.errors import InputError
from fcam_jax.models.weight_files import read_weights

# What `torch.save` of PyTorch 2.13 wrote of a module's state dict, zlib and base 85: "w" is [[0, 1, 2], [3, 4, 5]]
# transposed (strides 1 and 3), "b" is [0.5, -2] in bfloat16.
RECORDED = {
    "zip": (
        "c-o~@J#W)M7(Uynle&<8@R7El&Os`vois@Uf>svtVkANUDPpl4=V&b4xUYR_1yZFV)JkkHup)i{Vr7J1fK&-Fu`wVfRz~jZG}w;P7JBmeWZ("
        "Nd?{n|R)pa3-P$q+h#uS=Cre}5RExgn=iCNfu>}YBhJ&cWA-m+ZB!4|RIt}os3+StSGTed|cKvx>T<(nKO+XmhuE@dkiJz_h)WO%sMvz@j<a"
        "MyP|W2-2Ekk2>M)Yzw%<~oK{2$3|$HOam3rvzgGp$uYEpsTgngS0LZ$lTSDF6jI|jO&~(?1S{8!vstaIMaZ$0jLGp4t3HwBvu1vr83~249pa"
        "m>ZEm^z%=9J_h3fn_TXH|cb>q723+jzK(0AXjg1XVOco!Q4ff}nEO;=#1DArsY+=u*p@GXf=lg!EP}kF$_wVit3iZThePjZ1NE#%d@W}NxOk"
        "(ueG*#^9L1BC!etmn+gtIxCZyr_u^7UhEn2x>P-N0R<sij0}Pc$maOu*_k{N$+%{zw7SXmuc<^@L!T6^o``{~y1H!?6i*Fw?Mi<NKUQy@*F@"
        "$fBFEs$P;c_1Y-}gsi)(^tDDGI(O-OyT%mdUjBGBOE+eZQM4FWq-bjX#ENK0KQUk2$J}e`0Hu!fH5tjkpp;G(|B}SKAG}$AaD4t3Q1Nd821o"
        "U=XVVINYO>qIu-lqi_(w5vxuPiYO1W67D78veE*ERda=BJpDVK_}vLY+XRrXnBDsPv}&v~jNAE@M**n!SyOHK_bPu_z`bhH6;G2}B2jcVc~N"
        "wkUPV<ZPrlA+E`@<bb9I>yuB(QpGM;nAwi#^7Ihl<1u#Hd=*oY)437l_WM=Lz6M=mk4%5?4qe%h@Uxyjw!mjE{cnXB`RDUATx<|f)Cf<sc@w"
        "@cEKYd-9LQrZ%hm^nZQ1@{R7damRt"
    ),
    "stream": (
        "c-n1|%}(4f5XT)SyIb5s=?Ap5J@lAfR<NXKa{?j6#p>7g;!71}6N{uu<DGay)k-Vv1=RK#IB?`KcpV-Ai35|Yw&H+gkL3CK{l}j1f1<cKJG_"
        "4T{o?aRf5tytxn!rne6`9Ln^Xo(Vv6WkS2i~#IFz84DN^K!g^qNY=5Y!9j}qj>UlSeK{I|B?PQmk4hnzMu6+%aH<<c!L5xUY-Uem*rN6?dAT"
        "@y1QOraAbiWQ%#R98AZ$P*O6-i^TVl|vOjfhTCHB<n{t=7kkerN?z%q!H@UnkqUT2ylI0^%^i`#zz{wd5JhIOpIUWP5~XYLOEd&1e?Lu_Tc?"
        "+GZ;d*)tF3blGXi)@ZgJN(v|!amZT%yQxJc%M$SWoM<ZBnHH~2<BV@L~?6;h)o&TiAcSvD4+ztof4y<N9$%*i!A@CD;DxDK}Ht+r%VQmEK^%"
        "P#HB`S@6XpGYsV|dxdHxxM;yqd!6cF@J=ypfKzc1(}?t@*%v=5y|o!gasP?ylJ`nLXNcW^~T?_#(8+E^h(cdXlX"
    ),
}


def recorded(container):
    return zlib.decompress(base64.b85decode(RECORDED[container]))


# Pickles are put together by hand here, from the opcodes that PyTorch's are made of.


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def group(*items):
    return b"(" + b"".join(items) + b"t"


def mapping(entries):
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def tensor(key, shape, kind="Float", offset=0, stride=None):
    if stride is None:
        stride = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    storage = group(text("storage"), named("torch", f"{kind}Storage"), text(key), text("cpu"), integer(0)) + b"Q"
    where = integer(offset), group(*map(integer, shape)), group(*map(integer, stride))
    return named("torch._utils", "_rebuild_tensor_v2") + group(storage, *where, b"\x89", b"N") + b"R"


def write_zip(path, body, storages=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + body + b".")
        for key, values in dict(storages).items():
            archive.writestr(f"model/data/{key}", values.tobytes())


def write_stream(path, body, storages=()):
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [b"\x80\x02" + body + b".", pickle.dumps(list(dict(storages)), 2)]
    parts += [struct.pack("<q", values.size) + values.tobytes() for values in dict(storages).values()]
    path.write_bytes(b"".join(parts))


WRITERS = {"zip": write_zip, "stream": write_stream}
FLOATS = np.arange(12, dtype=np.float32)


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def refused(path, match):
    with pytest.raises(InputError, match=match) as error:
        read_weights(path)
    message = str(error.value)
    assert message.startswith(f"weights {path}: ") and message.isprintable() and len(message) < 500
    return message


@pytest.mark.parametrize("container", RECORDED)
def test_a_file_of_torch_save(container, tmp_path):
    path = tmp_path / "any.name"
    path.write_bytes(recorded(container))
    weights, digest = read_weights(path)
    assert list(weights) == ["w", "b"]
    np.testing.assert_array_equal(weights["w"], [[0, 3], [1, 4], [2, 5]])
    assert weights["w"].dtype == np.float32 and weights["w"].flags.c_contiguous
    assert weights["b"].dtype == ml_dtypes.bfloat16 and weights["b"].tolist() == [0.5, -2]
    assert digest == hashlib.sha256(recorded(container)).hexdigest()


def test_tensors_of_every_type_and_shape(write, tmp_path):
    kinds = {
        "Double": np.float64,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }
    storages = {kind: np.array([0, 1, 1, 3]).astype(dtype) for kind, dtype in kinds.items()} | {"x": FLOATS}
    entries = {kind: tensor(kind, (2, 2), kind) for kind in kinds}
    entries |= {
        "scalar": tensor("x", (), offset=5),
        "none": tensor("x", (0, 3)),
        "shared": tensor("x", (2, 3), offset=6),
        "transposed": tensor("x", (4, 3), stride=(1, 4)),
        "every other": tensor("x", (2, 2), offset=1, stride=(6, 2)),
    }
    write(tmp_path / "w.pth", mapping(entries), storages)
    weights, _ = read_weights(str(tmp_path / "w.pth"))
    for kind, dtype in kinds.items():
        assert weights[kind].dtype == dtype
        np.testing.assert_array_equal(weights[kind], storages[kind].reshape(2, 2))
    expected = {
        "scalar": FLOATS[5],
        "none": np.zeros((0, 3)),
        "shared": FLOATS[6:].reshape(2, 3),
        "transposed": FLOATS.reshape(3, 4).T,
        "every other": [[1, 3], [7, 9]],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(weights[name], np.array(values, np.float32), strict=True)
        assert weights[name].flags.c_contiguous


def test_pickles_of_other_ages(write, tmp_path):
    """Python 2 writes byte strings and an OrderedDict as a list of pairs, PyTorch 0.3 `_rebuild_tensor`."""
    storage = group(b"U\x07storage", named("torch", "FloatStorage"), b"U\x01x", b"U\x03cpu", integer(12)) + b"Q"
    old = named("torch._utils", "_rebuild_tensor") + group(storage, b"K\x02", group(b"K\x03"), group(b"K\x01")) + b"R"
    pairs = b"](" + b"](" + b"U\x04bias" + old + b"e" + b"e"
    write(tmp_path / "old.pth", named("collections", "OrderedDict") + pairs + b"\x85R", {"x": FLOATS})
    np.testing.assert_array_equal(read_weights(tmp_path / "old.pth")[0]["bias"], FLOATS[2:5])
    # Protocol 4 takes names from the stack and numbers what it memorises.
    entry = tensor("x", (2,)).replace(named("torch", "FloatStorage"), b"\x8c\x05torch\x8c\x0cFloatStorage\x93")
    write(tmp_path / "new.pth", mapping({"first": entry + b"\x94", "again": b"h\x00"}), {"x": FLOATS})
    weights, _ = read_weights(tmp_path / "new.pth")
    assert weights["first"].tolist() == weights["again"].tolist() == [0, 1]


def test_the_keys_around_a_state_dict_stand_before_its_names(write, tmp_path):
    """What has no name, and what is no tensor, is left out: optimisers, counts, and objects of training programs."""
    adam = mapping({"state": b"}K\x00" + mapping({"exp_avg": tensor("x", (2,))}) + b"s", "param_groups": b"]"})
    inner = mapping({"module.w": tensor("x", (2,)), "n.num_batches_tracked": b"N"})
    number = named("numpy.core.multiarray", "scalar") + group(
        named("numpy", "dtype") + group(text("f8"), b"\x89", b"\x88") + b"R" + group(b"K\x03", text("<")) + b"b",
        named("_codecs", "encode") + group(text("abc"), text("latin1")) + b"R",
    )
    others = {
        "args": named("argparse", "Namespace") + b")\x81" + mapping({"lr": b"K\x07"}) + b"b",
        "best": number + b"R",
        "seen": named("collections", "defaultdict") + b")R(" + text("a") + b"K\x01u",
        "device": named("torch", "device") + group(text("cuda")) + b"R",
        "best ones": named("__builtin__", "set") + b"](K\x01e\x85R",
        "names": b"\x8f(" + text("a") + b"\x90",
    }
    whole = mapping({"epoch": b"K\x07", "optimizer": adam, **others, "net": mapping({"ema": inner, "again": inner})})
    write(tmp_path / "c.pth", whole, {"x": FLOATS})
    weights, _ = read_weights(tmp_path / "c.pth")
    assert {name: array.tolist() for name, array in weights.items()} == {
        "net.ema.module.w": [0, 1],
        "net.again.module.w": [0, 1],
    }


MODULE = named("torch.nn.modules.linear", "Linear") + b")\x81}b"
STREAM_MODULE = group(text("module"), named("net", "Net"), text("net.py"), text("class Net: ...")) + b"Q"
TWICE = b"}" + b")" + b"".join(b"q\x00h\x00\x86" for _ in range(200))  # a tuple of 2^200 leaves
ORDERED = named("collections", "OrderedDict")
PAIRS = b"]q\x00(](" + text("w") + tensor("x", (2,)) + b"ee"
REUSED = mapping({"net": ORDERED + PAIRS + b"\x85R", "state_dict": ORDERED + b"h\x00\x85R"})
SHARED = b"}q\x00"  # dicts in dicts, each of which is one dict under each of many names
for depth in (1, 2, 3):
    below = SHARED + b"".join(text(str(i)) + b"h%c" % (depth - 1) for i in range(1, 1000))
    SHARED = b"}q%c(" % depth + text("0") + below + b"u"


@pytest.mark.parametrize(
    "body, match",
    [
        (
            MODULE,
            r"a whole module \('torch\.nn\.modules\.linear\.Linear'\), not a state dict: .*`model\.state_dict\(\)`",
        ),
        (STREAM_MODULE, r"a whole module \('net\.Net'\)"),
        (
            mapping({"args": named("argparse", "Action") + b")\x81"}),
            r"it names 'argparse\.Action', which no .* execu",
        ),
        (mapping({"net": named("argparse", "Namespace") + b")\x81"}), "it holds no tensors by name"),
        (mapping({"lr": b"G" + bytes(8)}), "it holds no tensors by name"),
        (b"}K\x07" + tensor("x", (2,)) + b"s", "it holds no tensors by name"),
        (SHARED, "it holds no tensors by name"),
        (tensor("x", (2,)), "it holds no tensors by name"),
        (mapping({}), "holds no tensors"),
        (mapping({"w": tensor("x", (13,))}), "damaged PyTorch file .*beyond its storage"),
        (mapping({"w": tensor("x", (2, 2), stride=(11, 1))}), "beyond its storage"),
        (mapping({"w": tensor("x", (4,), offset=9)}), "beyond its storage"),
        (mapping({"w": tensor("x", (2,), offset=-1)}), "of impossible shape"),
        (mapping({"w": tensor("x", (2,), offset=4, stride=(-1,))}), "of impossible shape"),
        (mapping({"w": tensor("x", (1 << 40, 1 << 40), stride=(0, 0))}), "far larger than the file"),
        (mapping({"w": tensor("x", (20,), stride=(0,))}), "beyond its storage"),
        (mapping({"w": tensor("y", (2,))}), "damaged PyTorch file .*KeyError"),
        (mapping({"w": tensor("x", (2,), kind="Quantized")}), r"'torch\.QuantizedStorage'"),
        (TWICE + b"K\x01s", "neither a string nor a small integer"),
        (b"N" + b"r\xff\xff\xff\xff", "it holds no tensors by name"),  # a place in the memo, not its size
        (b"X\xff\xff\xff\x7fabc", "damaged PyTorch file .*ValueError: expected 2147483647 bytes"),
    ],
    ids=range(21),
)
def test_what_is_no_state_dict_is_refused(write, body, match, tmp_path):
    write(tmp_path / "x.pth", body, {"x": FLOATS} if b"storage" in body else {})
    refused(tmp_path / "x.pth", match)


def test_a_list_of_pairs_makes_one_dict(write, tmp_path):
    """Many of one list would multiply it."""
    write(tmp_path / "x.pth", REUSED, {"x": FLOATS})
    assert list(read_weights(tmp_path / "x.pth")[0]) == ["net.w"]


@pytest.mark.parametrize("body", [b"N" * (1 << 20), b"(" * (1 << 20), b"]" * (1 << 20)])
def test_a_small_file_takes_no_long_time(write, body, tmp_path):
    write(tmp_path / "x.pth", body)
    refused(tmp_path / "x.pth", "has more steps than any state dict's")


def call(module, name, *arguments):
    return named(module, name) + group(*arguments) + b"R"


def programs(marker):
    """Pickles that create the marker where they are unpickled, and what they name for it."""
    shell = text(f"touch {marker}")
    touch = text(f"__import__('pathlib').Path({str(marker)!r}).touch()")
    system = named("posix", "system")
    return {
        "call": (call("posix", "system", shell), "posix.system"),
        "alias": (call("os", "system", shell), "os.system"),
        "name from the stack": (text("posix") + text("system") + b"\x93" + shell + b"\x85R", "posix.system"),
        "eval": (call("builtins", "eval", touch), "builtins.eval"),
        "exec": (call("builtins", "exec", touch), "builtins.exec"),
        "method": (
            call("builtins", "getattr", call("pathlib", "Path", text(str(marker))), text("touch")) + b")R",
            "getattr",
        ),
        "memo": (
            system + b"q\x000" + named("collections", "OrderedDict") + b"0h\x00" + shell + b"\x85R",
            "posix.system",
        ),
        "instance": (b"(" + shell + b"iposix\nsystem\n", "posix.system"),
        "object": (b"(" + system + shell + b"o", "posix.system"),
        "tensor": (mapping({"state_dict": mapping({"w": call("posix", "system", shell)})}), "posix.system"),
        "storage": (group(text("storage"), call("posix", "system", shell)) + b"Q", "posix.system"),
        "attribute": (
            named("collections", "OrderedDict") + b")R" + call("posix", "system", shell) + b"b",
            "posix.system",
        ),
    }


@pytest.mark.parametrize("way", programs("marker"))
def test_a_program_is_refused_and_not_executed(write, way, tmp_path):
    marker = tmp_path / "executed"
    body, name = programs(marker)[way]
    with contextlib.suppress(Exception):
        pickle.loads(b"\x80\x02" + body + b".")
    assert marker.exists()  # such is unpickling
    marker.unlink()
    write(tmp_path / "in.pth", body)
    (tmp_path / "plain.pkl").write_bytes(b"\x80\x02" + body + b".")
    for path in (tmp_path / "in.pth", tmp_path / "plain.pkl"):
        refused(path, rf"{re.escape(name)}', which no state dict needs: refused, because this could execute code")
    assert not marker.exists()


def test_safetensors(tmp_path):
    stored = {"half": np.ones((2, 3), ml_dtypes.bfloat16), "count": np.array(7), "none": np.zeros((0, 2), np.float32)}
    save_file(stored, tmp_path / "weights.pth")  # told by its content
    weights, digest = read_weights(tmp_path / "weights.pth")
    assert digest == hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert weights.keys() == stored.keys()
    for name, values in stored.items():
        np.testing.assert_array_equal(weights[name], values, strict=True)


def write_h5(path, entries):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in entries.items():
            file[name] = values
    return path


@pytest.mark.parametrize(
    "layout",
    [
        "{layer}/{layer}/{leaf}:0",  # save_weights of Keras 2, keras-applications
        "model_weights/{layer}/{layer}/{leaf}:0",  # save of Keras 2
        "model_weights/{layer}/{layer}/{leaf}",  # save as HDF5 of Keras 3
        "mobilenet_1.00_224/{layer}/{leaf}:0",  # a model used as a layer
    ],
)
def test_keras_names(layout, tmp_path):
    stored = {"conv1/kernel": FLOATS.reshape(3, 4), "conv1_bn/gamma": FLOATS[:4], "count/steps": np.array(3)}
    entries = {layout.format(layer=n.split("/")[0], leaf=n.split("/")[1]): values for n, values in stored.items()}
    if layout.startswith("model_weights"):
        entries["optimizer_weights/Adam/conv1/kernel/m:0"] = FLOATS
    weights, digest = read_weights(write_h5(tmp_path / "w.h5", entries))
    assert digest == hashlib.sha256((tmp_path / "w.h5").read_bytes()).hexdigest()
    assert weights.keys() == stored.keys()
    for name, values in stored.items():
        assert isinstance(weights[name], np.ndarray)
        np.testing.assert_array_equal(weights[name], values, strict=True)


@pytest.mark.parametrize(
    "entries, match",
    [
        ({"layers/conv1/vars/0": FLOATS}, r"Keras 3 without its tensors' names: .*model\.save\('NAME\.h5'\)"),
        ({"a/conv1/kernel:0": FLOATS, "b/conv1/kernel:0": FLOATS}, "two tensors 'conv1/kernel'"),
        ({"conv1/kernel:0": [b"text"]}, "'conv1/kernel:0' is not an array of numbers"),
        ({}, "holds no tensors"),
    ],
)
def test_other_hdf5_is_refused(entries, match, tmp_path):
    refused(write_h5(tmp_path / "w.h5", entries), match)


def test_hdf5_with_data_elsewhere_or_far_larger_than_the_file_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(48))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("conv1/kernel", (12,), "f4", external=[(str(tmp_path / "secret"), 0, 48)])
    refused(tmp_path / "a.h5", "not an array of numbers in the file itself")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("conv1/kernel", (1 << 40,), "f4", chunks=(1 << 10,))
    refused(tmp_path / "b.h5", "larger than the file")


@pytest.mark.slow
def test_hdf5_with_too_many_or_too_deep_groups_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_group("/".join("g" * 200))
    refused(tmp_path / "deep.h5", "more groups and tensors, or deeper ones, than any network")
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for i in range(10_002):
            file.create_group(str(i))
    refused(tmp_path / "wide.h5", "more groups and tensors, or deeper ones, than any network")


def test_without_h5py_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    refused(tmp_path / "w.h5", "HDF5 file; reading it needs h5py: pip install h5py$")


def write_entries(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"big" if name.endswith("byteorder") else b"}.")


def write_tar(path):
    (path.parent / "pickle").touch()
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "pickle", "pickle")


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def compress(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/data/0", bytes(1 << 20))


def compress_and_lie(path):
    compress(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    data = path.read_bytes()
    for entry in entries:
        packed, size = (number.to_bytes(4, "little") for number in (entry.compress_size, entry.file_size))
        data = data.replace(packed + size, packed + packed)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.write_text('weights {"name": "resnet50"}'), "not a weight file"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)), "not a weight file"),
        (lambda path: path.write_bytes(b"\x80"), "not a weight file"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
        (lambda path: write_entries(path, "w.npy"), r"zip archive without PyTorch's data\.pkl: not a weight file"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1})), "a pickle that `torch.save` did not write"),
        (lambda path: write_entries(path, "metadata.json", "config.json", "model.weights.h5"), "written by Keras 3"),
        (
            lambda path: write_entries(path, "net/data.pkl", "net/code/net.py", "net/constants.pkl"),
            "a TorchScript program",
        ),
        (lambda path: write_entries(path, "net/data.pkl", "net/byteorder"), "big-endian"),
        (compress, "compressed or damaged"),
        (compress_and_lie, "compressed or damaged"),
        (lambda path: path.write_bytes(recorded("stream")[:-1]), "PyTorch file .*the data end early"),
        (write_tar, "PyTorch's tar format"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: sparse(path, 1 << 40), "larger than"),
        (lambda path: sparse(path, 1 << 34), "not a weight file"),
        (lambda path: save_file({str(i): FLOATS[:1] for i in range(10_001)}, path), "10001 tensors, more than any"),
        (lambda path: None, "No such file"),
    ],
)
def test_other_files_are_refused(make, match, tmp_path):
    make(tmp_path / "x.pth")
    refused(tmp_path / "x.pth", match)


def original(kind, tmp_path):
    """A small valid file."""
    path = tmp_path / "original"
    if kind in RECORDED:
        return recorded(kind)
    if kind == "safetensors":
        save_file({"a.weight": FLOATS.reshape(3, 4), "a.bias": FLOATS[:3].astype(ml_dtypes.bfloat16)}, path)
    else:
        write_h5(path, {"conv1/conv1/kernel:0": FLOATS.reshape(3, 4), "conv1/conv1/bias:0": FLOATS})
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["safetensors", "hdf5", *RECORDED])
def test_a_damaged_file_gives_arrays_or_one_line(kind, tmp_path):
    whole = original(kind, tmp_path)
    path = tmp_path / "damaged"
    for length in range(0, len(whole), 1 + len(whole) // 100):
        path.write_bytes(whole[:length])
        refused(path, "empty|not a weight file|truncated or damaged")
    rng = random.Random(0)
    unnoticed = 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3])):
            content[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            weights, _ = read_weights(path)
        except InputError:
            refused(path, ".")
        else:
            unnoticed += 1
            assert sum(array.nbytes for array in weights.values()) <= 10 * len(whole)
    assert 0 < unnoticed < 200


@pytest.mark.parametrize("container", WRITERS)
def test_the_same_as_pytorch(container, tmp_path):
    torch = pytest.importorskip("torch")
    values = torch.randn(6, 5)
    state = {
        "half": values.half(),
        "bfloat16": values.bfloat16().t(),
        "transposed": values.t(),
        "permuted": torch.randn(2, 3, 4, 5).permute(3, 0, 2, 1),
        "shared": values[1:4, ::2],
        "scalar": torch.tensor(3),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(values),
    }
    path = tmp_path / "w.pth"
    for protocol in (2, 3, 4, 5):
        torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
        weights, _ = read_weights(path)
        assert list(weights) == list(state)
        for name, loaded in torch.load(path, map_location="cpu", weights_only=protocol == 2).items():
            assert str(loaded.dtype) == f"torch.{weights[name].dtype}"
            np.testing.assert_array_equal(
                weights[name].astype(np.float64), loaded.detach().double().numpy(), strict=True, err_msg=name
            )


def test_what_needs_pytorch_says_so_where_it_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "sparse.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n.")
    with pytest.raises(InputError, match=r"_rebuild_sparse_tensor.*reading it needs PyTorch: pip install torch$"):
        read_weights(path)


def test_pytorch_reads_what_our_reader_does_not_know(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "sparse.pth"
    torch.save({"a": torch.eye(3).to_sparse(), "b.num_batches_tracked": 3, "c": torch.ones(2, dtype=torch.half)}, path)
    weights, _ = read_weights(path)
    assert weights.keys() == {"a", "c"}
    np.testing.assert_array_equal(weights["a"], np.eye(3))
    np.testing.assert_array_equal(weights["c"], np.ones(2))
