"""Addresses and bits for compiled code: what numba has no cheap words for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic
I64 = ir.IntType(64)


@intrinsic
def pointer_to(typing: Any, array: Any) -> Any:
    """The address of an array's first element: no reference is counted, no bound is checked."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), code


@intrinsic
def record_at(typing: Any, pointer: Any, index: Any) -> Any:
    """A record of an array, to read and write its fields."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer.dtype(pointer, types.int64), code


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set; there must be one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bit = ir.IntType(1)
        function_type = ir.FunctionType(I64, [I64, bit])
        count_zeros = cgutils.get_or_insert_function(builder.module, function_type, "llvm.cttz.i64")
        return builder.call(count_zeros, [args[0], ir.Constant(bit, 1)])

    return types.int64(types.uint64), code
