"""Deployment of the CloudFormation templates, and of resources outside of CloudFormation."""

from sluice.errors import TerminalError


class DeployError(TerminalError):
    """A deployment failed; the message names the stack or resource, the reason and what to do."""
