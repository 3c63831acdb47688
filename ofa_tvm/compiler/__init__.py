"""From NetworkSpec and weights to tuned machine code; the only folder that imports TVM's compiler."""
