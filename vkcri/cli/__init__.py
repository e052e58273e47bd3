"""The command `vkcri`: bring a node up and down, and look at it. Runs in a person's terminal.

main  the commands          bringup     the order of the steps of up and down
supervision  supervisord    statusview  what status and logs show
"""
