"""Deployment of the CloudFormation templates, and of what CloudFormation does not do."""

from sluice.errors import TerminalError


class DeployError(TerminalError):
    """A deployment failed; the message names the stack or resource, the reason and the way out."""
