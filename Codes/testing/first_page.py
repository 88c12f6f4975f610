"""Imported by the server that runners are forked from: what the first page costs a process is paid once."""

from Codes.warm import command_template

command_template.first_page()
