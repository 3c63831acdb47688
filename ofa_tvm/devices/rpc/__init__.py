"""Boards behind TVM's RPC tracker."""
