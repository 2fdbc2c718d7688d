"""Chats that were made into one string by a policy's chat template, taken apart again.

Trainers that speak HTTP send such strings where a judge needs messages. What can't be read is an error, not a guess.
"""
