"""What would make a host wait for a GPU, found on the CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quorem.embeddings.assignment import FREE_TO_READ

READS = {  # a number of the device's, or a shape that depends on one
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "unique_dim", "_unique",
    "_unique2", "unique_consecutive",
}  # fmt: skip
WRITES = {"lift_fresh"}  # torch.tensor(numbers): a copy from memory that is not locked


class NoWaiting(TorchDispatchMode):
    """Refuses operations for which the host would wait, if tensors were on a GPU."""

    def __enter__(self):
        FREE_TO_READ.remove("cpu")
        return super().__enter__()

    def __exit__(self, *error):
        FREE_TO_READ.add("cpu")
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_unsafe_index") else ()
        chosen = any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(indices))
        if name in READS | WRITES or chosen:
            raise AssertionError(f"{function}: the host would wait for the device")
        return function(*args, **(kwargs or {}))
