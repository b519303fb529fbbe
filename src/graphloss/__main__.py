"""`python -m graphloss`: the form that `torchrun -m` and `accelerate launch -m` start."""

from graphloss.cli import main

if __name__ == "__main__":
    main()
